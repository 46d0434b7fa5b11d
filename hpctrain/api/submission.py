"""``hpctrain.submit``: what ``hpc-submit`` does, from Python. No torch here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.api.run import Run
from hpctrain.cost.budget import check_budget, has_budget
from hpctrain.launch.after import jobs_before
from hpctrain.launch.resume import nothing_left, refuse_to_resume, resume_problems
from hpctrain.launch.submit import Submission, prepare, with_absolute_paths, with_global_batch
from hpctrain.launch.submit import submit as submit_job
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.profile.check import add_memory, check_profile
from hpctrain.profile.load import load_profile
from hpctrain.profile.values import overrides_of
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.profile.check import Findings
    from hpctrain.profile.load import Source
    from hpctrain.profile.schema import Profile


def submit(
    profile: Source,
    set: Mapping[str, Any] | Sequence[str] = (),
    cluster: str | None = None,
    after: Run | str | Path | Sequence[Run | str | Path] = (),
    *,
    runs_dir: str | Path | None = None,
    memory: bool = True,
) -> Run:
    """Check a profile, make its run directory and submit it; return at once.

    Parameters
    ----------
    profile : str, Path, mapping or Profile
        The YAML file; or what it would hold, as plain values; or a loaded profile such as ``run.profile``.
    set : mapping or sequence of str
        Changes: ``{"train.seed": 7}``, ``{"train": {"seed": 7}}`` or ``["train.seed=7"]``.
    cluster : str, optional
        Where to run, instead of ``launch.cluster``: ``slurm``, ``local``, or a target of your own.
    after : Run, str, Path or sequence of these
        Runs, or ids of jobs, that must have finished before this run starts. If one of them fails, it never starts.
    runs_dir : str or Path, optional
        Folder of runs, instead of ``launch.runs_dir``.
    memory : bool
        Estimate the memory first if the profile names a platform.

    Returns
    -------
    Run

    Raises
    ------
    ProfileError
        The profile, the site or an argument has problems; the message lists all of them. Nothing was written.
    SiteError
        The cluster refuses the job. Nothing was written.

    Warns
    -----
    UserWarning
        For what works but is probably a mistake, as ``hpctrain check`` shows it.

    Examples
    --------
    >>> run = hpctrain.submit("profiles/quickstart.yaml", {"train.seed": 7}, cluster="local")  # doctest: +SKIP
    >>> run.wait().state  # doctest: +SKIP
    'finished'
    """
    overrides = _changes(set, cluster)
    if runs_dir is not None:
        overrides += overrides_of({"launch.runs_dir": str(runs_dir)})
    findings = check_profile(profile, overrides, memory=False)
    wanted = with_absolute_paths(_judged(findings, memory), Path.cwd())
    check_budget([findings])
    target = choose_target(wanted.launch.cluster)
    jobs = jobs_before(_names(after), Path(wanted.launch.runs_dir), target)
    return _hand_over(prepare([wanted], target, findings.site, after=jobs))


def resume(run: Run, set: Mapping[str, Any] | Sequence[str], cluster: str | None, memory: bool) -> Run:
    """Submit a run again, which continues from its newest checkpoint; see :meth:`hpctrain.Run.resume`."""
    directory, status, overrides = RunDir(run.path), run.status, _changes(set, cluster)
    refuse_to_resume(status)
    if message := nothing_left(status, load_profile(directory.profile, overrides)):
        warnings.warn(message, stacklevel=3)
        return run
    findings = check_profile(directory.profile, overrides, memory=False)
    if findings.profile is not None:
        changed = with_absolute_paths(findings.profile, Path.cwd())
        findings.problems += resume_problems(directory, changed, overrides)
    wanted = with_absolute_paths(_judged(findings, memory), Path.cwd())
    check_budget([findings], directory, status.step)
    wanted = with_global_batch(wanted, load_profile(directory.profile).global_batch, str(directory.profile))
    return _hand_over(prepare([wanted], choose_target(wanted.launch.cluster), findings.site, resume=directory))


def _changes(set: Mapping[str, Any] | Sequence[str], cluster: str | None) -> list[str]:
    return overrides_of(set) + ([] if cluster is None else overrides_of({"launch.cluster": cluster}))


def _hand_over(submission: Submission) -> Run:
    # The platform itself checks the job, so that nothing is written for a job that it would refuse.
    find_target(submission.cluster).ask(submission.plan, submission.texts)
    submit_job(submission, Path.cwd())
    return Run(submission.runs[0].path)


def _judged(findings: Findings, memory: bool) -> Profile:
    """Return the profile that was checked; warn of what is probably a mistake, and raise all problems."""
    profile = findings.profile
    is_wanted = profile is not None and (profile.platform or has_budget(profile, findings.site))
    if memory and not findings.problems and is_wanted:
        add_memory(findings, {})
    for warning in findings.warnings:
        warnings.warn(str(warning), stacklevel=3)
    return findings.raise_problems()


def _names(after: Run | str | Path | Sequence[Run | str | Path]) -> list[str]:
    listed = [after] if isinstance(after, Run | str | Path) else list(after)
    return [str(item.path if isinstance(item, Run) else item) for item in listed]
