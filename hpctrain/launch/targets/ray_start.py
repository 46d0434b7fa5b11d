"""Start the keeper of a run on a Ray cluster: an actor without an owner, which no process elsewhere has to outlive.

``python -m hpctrain.launch.targets.ray_start RUN_DIR JOB_ID`` does it on a node of the cluster; Ray Jobs call it.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from typing import Any

from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.launch.targets.ray_cluster import connect

NAMESPACE = "hpctrain"
CONTROLLER_MODULE = "hpctrain.launch.targets.ray_controller"
START_MODULE = "hpctrain.launch.targets.ray_start"
STARTS_AGAIN = 75
"""Exit code of a controller that lost its own node; so is each code of a signal. Any other one is its last word."""
_BEGINS_WITHIN_S = 180.0
_POLL_S = 1.0


def start(address: str, run_dir: str, job_id: str) -> None:
    """Start the keeper of a run, and return once its controller has begun.

    Parameters
    ----------
    address : str
        ``auto``, ``HOST:PORT``, ``ray://HOST:PORT`` or ``http://HOST:PORT``.
    run_dir : str
    job_id : str
        Also the name of the actor.

    Raises
    ------
    SiteError
        The cluster does not answer, or the controller does not begin.
    """
    if address.startswith("http"):
        _start_by_a_job(address, run_dir, job_id)
    else:
        _start_keeper(address, run_dir, job_id)


def _start_keeper(address: str, run_dir: str, job_id: str) -> None:
    import ray

    connect(address, "ray.address of the site")
    own_code = environment_of_ranks().get("PYTHONPATH")
    keeper, has_begun = None, False
    try:
        keeper = (
            ray.remote(_keeper_class())
            .options(
                name=job_id, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=-1, max_concurrency=2
            )
            .remote(run_dir, job_id, [sys.executable, "-u", "-m", CONTROLLER_MODULE, run_dir, job_id], own_code)
        )
        said = ray.get(keeper.begun.remote(_BEGINS_WITHIN_S), timeout=_BEGINS_WITHIN_S + 60)
        has_begun = not said
    except Exception as error:  # the folder is not there, the node died, and what else Ray passes on
        raise SiteError(f"the run did not start on the Ray cluster at '{address}': {error}") from error
    finally:
        if keeper is not None and not has_begun:
            with contextlib.suppress(Exception):  # it is dead
                ray.kill(keeper)
        ray.shutdown()
    if said:
        raise SiteError(f"the run did not start on the Ray cluster at '{address}': {said}")


def _start_by_a_job(address: str, run_dir: str, job_id: str) -> None:
    """Let a job of Ray Jobs start the keeper; it ends at once."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    own_code = environment_of_ranks().get("PYTHONPATH")
    variables = f"PYTHONPATH={shlex.quote(own_code)} " if own_code else ""
    command = shlex.join([sys.executable, "-u", "-m", START_MODULE, run_dir, job_id])
    try:
        client = JobSubmissionClient(address)
        client.submit_job(entrypoint=variables + command, submission_id=job_id)
        until_s = time.monotonic() + _BEGINS_WITHIN_S + 120
        while not (status := client.get_job_status(job_id)).is_terminal() and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        said = "" if status == JobStatus.SUCCEEDED else client.get_job_logs(job_id)
    except Exception as error:  # requests has many, and Ray wraps some of them; RuntimeError where `default` is missing
        reason = " ".join(str(error).split())
        raise SiteError(f"Ray Jobs at '{address}' did not start the run (needs ray[default]): {reason}") from error
    if status != JobStatus.SUCCEEDED:
        raise SiteError(f"Ray Jobs at '{address}' did not start the run ({status}): {said.strip()[-500:]}")


def _keeper_class() -> Any:
    """Return the class of the keeper. Ray sends it as a whole: its process need not know hpctrain."""
    starts_again, namespace = STARTS_AGAIN, NAMESPACE

    class Keeper:
        """Runs the controller of one run, and again if it was killed; Ray starts the keeper itself again elsewhere."""

        def __init__(self, run_dir: str, job_id: str, command: list[str], own_code: str | None) -> None:
            import os
            import threading

            self.run_dir, self.job_id, self.command, self.own_code = run_dir, job_id, command, own_code
            self.log = os.path.join(run_dir, "logs", f"{job_id}.log")
            self.code: int | None = None
            self.was_asked = threading.Event()
            threading.Thread(target=self.keep, daemon=True).start()

        def keep(self) -> None:
            """Run the controller until it has said its last word, then remove this actor."""
            import os
            import subprocess
            import sys
            import time

            import ray

            gcs = ray.get_runtime_context().gcs_address
            environment = {**os.environ, **({"PYTHONPATH": self.own_code} if self.own_code else {})}
            python = self.command[0] if os.path.exists(self.command[0]) else sys.executable
            code: int = starts_again
            while code < 0 or code == starts_again:
                try:
                    with open(self.log, "ab") as log:
                        code = subprocess.call(
                            [python, *self.command[1:], gcs],
                            env=environment,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                        )
                except OSError as error:
                    self.error, code = str(error), 3
                time.sleep(1)
            self.code = code
            self.was_asked.wait(60)
            time.sleep(1)
            ray.kill(ray.get_actor(self.job_id, namespace=namespace), no_restart=True)

        def begun(self, within_s: float) -> str:
            """Return nothing once the controller has written its record, else why it did not."""
            import json
            import os
            import time

            self.was_asked.clear()
            try:
                until_s = time.monotonic() + within_s
                while self.code is None and time.monotonic() < until_s:
                    try:
                        with open(os.path.join(self.run_dir, "attempts", "controller.json")) as record:
                            if json.load(record)["job_id"] == self.job_id:
                                return ""
                    except (OSError, ValueError, KeyError):
                        pass
                    time.sleep(0.2)
                if not os.path.exists(self.log):
                    return getattr(self, "error", "") or f"no node sees {self.run_dir}"
                with open(self.log) as log:
                    said = log.read().strip()[-500:]
                late = f"its controller has not begun within {within_s:.0f} s"
                return said or (late if self.code is None else f"its controller ended with code {self.code}")
            finally:
                self.was_asked.set()

    return Keeper


def main(arguments: list[str]) -> int:
    """Start the keeper of the run that the arguments name, on the cluster of this node."""
    run_dir, job_id = arguments
    try:
        _start_keeper("auto", run_dir, job_id)
    except HpctrainError as error:
        print(f"hpctrain: {error_line(error)}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
