"""Stop a run at a person's word."""

from __future__ import annotations

import shutil
import subprocess

from hpctrain.errors import SiteError
from hpctrain.launch.runs import job_ids, read_job
from hpctrain.launch.status import describe
from hpctrain.launch.supervisor import supervisor_path
from hpctrain.rundir import RunDir, read_json


def cancel(run: RunDir) -> str:
    """Cancel a run, wherever it is, and say what was done.

    Raises
    ------
    SiteError
        It runs where we cannot reach it, or scancel refuses.
    """
    status = describe(run)
    if not status.is_active:
        return f"{run.path}: {status.state} (says {status.source}); there is nothing to cancel"
    if read_job(run).get("cluster") == "local":
        return _cancel_local(run)
    if shutil.which("scancel") is None:
        raise SiteError(f"there is no scancel on this host; on a login node: scancel {status.job_id}")
    done = subprocess.run(["scancel", job_ids(run)[-1]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SiteError(f"scancel refuses: {done.stderr.strip()}")
    return f"{run.path}: job {status.job_id} is cancelled; its ranks save and leave"


def _cancel_local(run: RunDir) -> str:
    from hpctrain.launch.local import cancel_local

    record = read_json(supervisor_path(run), {})
    if not cancel_local(run):
        raise SiteError(f"{run.path}: its supervisor runs on {record.get('host', 'another host')}; cancel it there")
    return f"{run.path}: supervisor {record['pid']} is told to stop; its ranks save and leave"
