"""Start a run on this machine: submitit's local executor starts a supervisor that outlives the submitting command."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time

from submitit.local.local import LocalExecutor

from hpctrain.distributed.process import send_signal
from hpctrain.errors import SiteError
from hpctrain.files import is_in_the_way, open_append, put_aside
from hpctrain.launch.environment import enter_clean_environment
from hpctrain.launch.supervisor import ALL_GPUS, VISIBLE_GPUS, lock_holder, read_supervisor, supervisor_path
from hpctrain.rundir import RunDir

_YEARS_MIN = 60 * 24 * 365 * 20
"""submitit ends local jobs at its own time limit, two minutes by default; a local run has no time limit."""
_START_WITHIN_S = 30.0


class SupervisorExecutor(LocalExecutor):
    """submitit's local executor with our supervisor as its one task instead of a pickled callable."""

    def start(self, run: RunDir) -> None:
        """Start the supervisor of `run` and return at once."""
        self.update_parameters(timeout_min=_YEARS_MIN, signal_delay_s=0, stderr_to_stdout=True)
        self._submit_command(shlex.join([sys.executable, "-u", "-m", "hpctrain.launch.supervisor", str(run.path)]))


def start_local(run: RunDir) -> str:
    """Start the run on this machine.

    Parameters
    ----------
    run : RunDir
        With profile and ``job.json`` written.

    Returns
    -------
    str
        Job id ``local-<pid of the supervisor>``.

    Raises
    ------
    SiteError
        The supervisor did not start in time.
    """
    if is_in_the_way(supervisor_path(run)):
        put_aside(supervisor_path(run))
    supervisor_path(run).unlink(missing_ok=True)
    _in_a_session_of_its_own(run)
    deadline = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline:
        record = read_supervisor(run)
        if "job_id" in record:
            return record["job_id"]
        time.sleep(0.05)
    raise SiteError(f"the local run did not start within {_START_WITHIN_S:.0f} s; see {run.logs / 'supervisor.log'}")


def cancel_local(run: RunDir) -> bool:
    """Ask the supervisor on this host to let the ranks save and to end the run.

    Anybody may have written the file that names the supervisor, so this function does not trust it. According to the
    kernel the process must hold the lock of the run. It must also be the one that wrote the file, and belong to this
    user.

    Returns
    -------
    bool
        False if there is no such process on this host; nothing was signalled.
    """
    process = read_supervisor(run).get("process")
    if process is None or process["pid"] != lock_holder(run):
        return False
    return send_signal(process, signal.SIGTERM)


def _in_a_session_of_its_own(run: RunDir) -> None:
    """Let a child without a terminal call submitit, so that the supervisor survives a closed session and Ctrl-C."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        log = open_append(run.logs / "supervisor.log")
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        enter_clean_environment()
        os.environ[VISIBLE_GPUS] = os.environ.get("CUDA_VISIBLE_DEVICES", ALL_GPUS)
        SupervisorExecutor(folder=run.logs / "supervisor").start(run)
    except Exception as error:
        print(f"hpctrain: cannot start the supervisor: {error!r}", flush=True)
    finally:
        os._exit(0)
