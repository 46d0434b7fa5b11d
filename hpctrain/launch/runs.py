"""Find run directories on disk: by path, by run id, by name (the newest one) or by job id."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.records import Record
from hpctrain.rundir import RunDir

DEFAULT_RUNS_DIR = "runs"
_RUN_ID = re.compile(r"\d{8}-\d{6}-")


def is_run(path: Path) -> bool:
    """Say whether `path` is a run directory: one of the files is there that every run has at some time."""
    return any(os.path.lexists(path / name) for name in ("profile.yaml", "job.json", "metrics.jsonl"))


def all_runs(runs_dir: Path) -> list[RunDir]:
    """Return all runs below `runs_dir`, newest first (run ids sort by time)."""
    folders = [folder for folder in runs_dir.glob("*/*") if is_run(folder) or _is_locked_run(folder)]
    runs = {run.path: run for run in map(RunDir, folders)}
    return sorted(runs.values(), key=lambda run: run.run_id, reverse=True)


def _is_locked_run(folder: Path) -> bool:
    """Say whether a folder has a run id for its name and may not be looked into."""
    return _RUN_ID.match(folder.name) is not None and folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def read_job(run: RunDir) -> Record:
    """Return ``job.json``; an empty record where it is damaged, or a run was started without the launcher."""
    return run.read_job()


def job_ids(run: RunDir) -> list[str]:
    """Return the ids of all jobs this run was submitted as, oldest first."""
    return [submission["job_id"] for submission in read_job(run).get("submissions", [])]


def find_run(text: str | None, runs_dir: Path) -> RunDir:
    """Return the run that a user means.

    Parameters
    ----------
    text : str or None
        Path of a run directory, a run id, a name, or a job id; None is the newest run.
    runs_dir : Path
        Where to look for all but a path.

    Raises
    ------
    ProfileError
        There is none; says what there is.
    """
    if text is not None and is_run(Path(text)):
        return RunDir(text)
    runs = all_runs(runs_dir)
    if not runs:
        raise _not_found(text or "newest run", f"there are no runs in {runs_dir.absolute()}; name one with --runs-dir")
    if text is None:
        return runs[0]
    for matches in (lambda run: run.run_id == text, lambda run: run.name == text, lambda run: text in job_ids(run)):
        for run in runs:
            if matches(run):
                return run
    known = sorted({run.name for run in runs} | {run.run_id for run in runs})
    near = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`hpctrain list` shows what there is"
    raise _not_found(text, f"no run of this path, name, run id or job id in {runs_dir.absolute()}; {hint}")


def _not_found(text: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(text, message)])
