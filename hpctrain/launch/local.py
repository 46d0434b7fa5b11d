"""A run on this machine: submitit's local executor starts a supervisor that outlives the command that asked for it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time

from submitit.local.local import LocalExecutor

from hpctrain.errors import SiteError
from hpctrain.launch.environment import enter_clean_environment
from hpctrain.launch.supervisor import ALL_GPUS, VISIBLE_GPUS, is_supervised, supervisor_path
from hpctrain.rundir import RunDir, read_json

_YEARS_MIN = 60 * 24 * 365 * 20
"""submitit ends local jobs at a time limit of its own, two minutes by default; a local run has none."""
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
        The supervisor did not come up.
    """
    supervisor_path(run).unlink(missing_ok=True)
    _in_a_session_of_its_own(run)
    deadline = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline:
        record = read_json(supervisor_path(run))
        if record:
            return str(record["job_id"])
        time.sleep(0.05)
    raise SiteError(f"the local run did not start within {_START_WITHIN_S:.0f} s; see {run.logs / 'supervisor.log'}")


def cancel_local(run: RunDir) -> bool:
    """Ask the supervisor on this host to let the ranks save and to end the run; False where there is none."""
    record = read_json(supervisor_path(run))
    if not record or not is_supervised(run):
        return False
    os.kill(record["pid"], signal.SIGTERM)
    return True


def _in_a_session_of_its_own(run: RunDir) -> None:
    """Let a child that has no terminal call submitit, so that what it starts survives a closed session and Ctrl-C."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        log = os.open(run.logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
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
