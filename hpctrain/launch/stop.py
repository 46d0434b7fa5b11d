"""Cancel a run at the request of its user."""

from __future__ import annotations

from hpctrain.errors import SiteError
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.targets import target_of
from hpctrain.rundir import RunDir
from hpctrain.trail.note import note


def cancel(run: RunDir) -> str:
    """Cancel a run where it runs, and return a message that reports the result.

    Raises
    ------
    SiteError
        The run cannot be cancelled from this host, or the platform refuses.
    """
    status = describe(run)
    if not status.is_active:
        return f"{run.path}: {status.state} (according to {status.source}); there is nothing to cancel"
    target, job = target_of(run), newest_job(run)
    if target is None or not job.id:
        raise SiteError(
            f"{run.job}: does not say where this run was submitted, or names a target that is not installed here; "
            "nothing was cancelled. Cancel its job with the commands of its platform"
        )
    said = target.cancel(job)
    note("cancel", run.path, job_id=job.id)
    return f"{run.path}: {said}"
