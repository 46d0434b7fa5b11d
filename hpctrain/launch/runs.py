"""Find run directories on disk: by path, by run id, by name (the newest one) or by job id."""

from __future__ import annotations

import difflib
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import Job
from hpctrain.records import Record
from hpctrain.rundir import RunDir, all_runs, is_run, job_ids, newest_called, newest_runs

__all__ = [
    "DEFAULT_RUNS_DIR", "all_runs", "find_run", "is_run", "job_ids", "newest_job", "newest_runs", "path_or_run",
    "read_job",
]  # fmt: skip

DEFAULT_RUNS_DIR = "runs"
_NUM_NEAR = 3


def read_job(run: RunDir) -> Record:
    """Return ``job.json``; an empty record if it is damaged or the run was started without the launcher."""
    return run.read_job()


def newest_job(run: RunDir, job: Record | None = None) -> Job:
    """Return the job of the newest submission of a run; its id is empty if the run was never submitted.

    Parameters
    ----------
    run : RunDir
    job : Record, optional
        Its ``job.json``, if it was read already.
    """
    job = run.read_job() if job is None else job
    newest = (job.get("submissions") or [{}])[-1]
    name = newest.get("job_name", job.get("name", ""))
    return Job(newest.get("job_id", ""), job.get("cluster", ""), run.path, name)


def find_run(text: str | None, runs_dir: Path) -> RunDir:
    """Return the run that a user means.

    Parameters
    ----------
    text : str or None
        Path of a run directory, a run id, a name, or a job id; None means the newest run.
    runs_dir : Path
        Where to look for all but a path.

    Raises
    ------
    ProfileError
        There is no such run; the message names the runs that exist.
    """
    if text is not None:
        path = Path(text)
        if is_run(path):
            return RunDir(path)
        if (found := newest_called(text, runs_dir)) is not None:
            return found
        if path.is_dir():
            raise _not_found(text, _what_it_is(path))
    newest = next(newest_runs(runs_dir), None)
    if newest is None:
        raise _not_found(text or "newest run", f"there are no runs in {runs_dir.absolute()}; name one with --runs-dir")
    if text is None:
        return newest
    runs = all_runs(runs_dir)
    known = sorted({run.name for run in runs} | {run.run_id for run in runs})
    near = difflib.get_close_matches(text, known, n=_NUM_NEAR)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there is {_some(runs)}"
    raise _not_found(text, f"no run of this path, name, run id or job id in {runs_dir.absolute()}; {hint}")


def path_or_run(text: str, runs_dir: Path) -> Path:
    """Return the path that a user means by the name of a run, a model folder or a file.

    Parameters
    ----------
    text : str
        A path, or the run id, name or job id of a run.
    runs_dir : Path
        Folder to search for the run.

    Returns
    -------
    Path
        `text` unchanged if nothing has this name.
    """
    if Path(text).exists():
        return Path(text)
    found = newest_called(text, runs_dir)
    return Path(text) if found is None else found.path


def _some(runs: list[RunDir]) -> str:
    names = list(dict.fromkeys(run.name for run in runs))
    more = f" and {len(names) - 8} more (hpctrain list)" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _what_it_is(path: Path) -> str:
    """Return why a folder is not a run directory, and name the runs in it if there are any."""
    inside = sorted({folder.parent.name for folder in path.glob("*/profile.yaml")}, reverse=True)
    inside = inside or sorted((folder.parent.name for folder in path.glob("*/*/profile.yaml")), reverse=True)
    if inside:
        return f"this folder contains runs but is not a run directory; name one of them, such as {inside[0]}"
    return "this folder has no profile.yaml, job.json or metrics.jsonl; a run directory is runs/<name>/<run id>"


def _not_found(text: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(text, message)])
