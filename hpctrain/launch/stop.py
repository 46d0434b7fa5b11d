"""Cancel a run at the request of its user."""

from __future__ import annotations

import os
import shutil
import subprocess

from hpctrain.errors import SiteError
from hpctrain.launch.runs import job_ids, read_job
from hpctrain.launch.status import describe
from hpctrain.launch.supervisor import lock_holder, read_supervisor
from hpctrain.rundir import RunDir


def cancel(run: RunDir) -> str:
    """Cancel a run, in Slurm or on this host, and return a message that reports the result.

    Raises
    ------
    SiteError
        The run cannot be cancelled from this host, or scancel refuses.
    """
    status = describe(run)
    if not status.is_active:
        return f"{run.path}: {status.state} (according to {status.source}); there is nothing to cancel"
    if read_job(run).get("cluster") == "local":
        return _cancel_local(run)
    _refuse_if_foreign(run, status.job_id)
    if shutil.which("scancel") is None:
        raise SiteError(f"there is no scancel on this host; on a login node: scancel {status.job_id}")
    done = subprocess.run(["scancel", job_ids(run)[-1]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SiteError(f"scancel refuses: {done.stderr.strip()}")
    return f"{run.path}: job {status.job_id} is cancelled; its ranks save and exit"


def _cancel_local(run: RunDir) -> str:
    from hpctrain.launch.local import cancel_local

    record = read_supervisor(run)
    if not cancel_local(run):
        holder = lock_holder(run)
        seen = f"process {holder} holds its lock" if holder else "no process of this host holds its lock"
        raise SiteError(
            f"{run.path}: cannot prove that process {record.get('pid', 'unknown')} on "
            f"{record.get('host', 'an unknown host')} is the supervisor of this run and yours: {seen}; nothing was "
            "signalled. Cancel it on its own host, as the user who started it"
        )
    return f"{run.path}: asked supervisor {record['pid']} to stop; its ranks save and exit"


def _refuse_if_foreign(run: RunDir, job_id: str) -> None:
    """Raise an error if another user wrote the job id: it could name another job of this user."""
    try:
        owner = os.lstat(run.job).st_uid
    except OSError:
        return
    if owner != os.geteuid():
        raise SiteError(
            f"{run.job}: belongs to another user (uid {owner}), so the job id in it is not trusted; nothing was "
            f"cancelled. If the job is yours to cancel: scancel {job_id}"
        )
