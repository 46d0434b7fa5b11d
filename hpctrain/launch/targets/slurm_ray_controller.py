"""``python -m hpctrain.launch.targets.slurm_ray_controller RUN_DIR JOB_ID ADDRESS``: a run on the Ray of one Slurm job.

:mod:`hpctrain.launch.targets.slurm_ray_node` starts it on the first node of the job. TERM tells it that the job ends:
its ranks save, and it exits with code 75. Nobody adds nodes to this Ray, so it does not wait for ever for those that
are lost. It ends with code 76, and the batch script asks Slurm for other nodes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hpctrain.credentials.hide import hide_in_tracebacks
from hpctrain.errors import EXIT_FINISHED, EXIT_RANKS_LOST, EXIT_REQUEUE, NodeError, SiteError
from hpctrain.launch.pod import DEADLINE
from hpctrain.launch.targets.ray_cluster import end_with_parent
from hpctrain.launch.targets.ray_controller import Controller, control
from hpctrain.launch.targets.ray_nodes import Room, find_room
from hpctrain.launch.targets.ray_shape import smaller_shapes
from hpctrain.records import is_count
from hpctrain.rundir import RunDir

_FIRST_NODES_WITHIN_S = 600.0
"""How long all nodes of a job may take to start Ray [s]; they read it from a file system that many share."""
_WORTH_A_START_S = 120.0
"""An attempt that would have less time than this [s] before its ranks have to save does not start."""


class ControllerInSlurm(Controller):
    """One run on the Ray of one Slurm job.

    Parameters
    ----------
    run : RunDir
    job_id : str
        Of Slurm.
    log : Path
        File for what the first processes of the nodes print.
    allocated : int
        Number of nodes of the job.
    deadline_s : float or None
        When Slurm ends the job, seconds since 1970.
    """

    def __init__(self, run: RunDir, job_id: str, log: Path, allocated: int, deadline_s: float | None) -> None:
        super().__init__(run, job_id, log)
        self._allocated, self._deadline_s = allocated, deadline_s
        self._job_ends = self._has_begun = False
        signal.signal(signal.SIGTERM, self._note_end)

    def _note_end(self, number: int, frame: object) -> None:
        self._job_ends = True

    def is_cancelled(self) -> bool:
        """Return whether the job ends; whether another one follows, its batch script decides."""
        return self._job_ends

    def ended_before(self) -> int | None:
        """Return None: Slurm has started this job, so somebody wants it to run."""
        return None

    def find_room(self, say: Callable[[str], None]) -> Room | None:
        """Wait for room on the nodes of the job; return None if too few of them live."""
        shapes = smaller_shapes(self.run, min(self._allocated, self.request["nodes"]) + 1, self.request["min_nodes"])
        if not shapes:
            raise SiteError(
                f"no number of nodes from {self.request['min_nodes']} to {self._allocated} can share the global batch"
            )
        wait_s = self.request["wait_s"] if self._has_begun else max(self.request["wait_s"], _FIRST_NODES_WITHIN_S)
        self._has_begun = True
        asked = {**self.request, "nodes": shapes[0], "wait_s": wait_s}
        return find_room(asked, shapes[1:], self.is_cancelled, say, gives_up=True)

    def ends_without_room(self) -> int:
        """Return the code of a job that has lost too many nodes, or that ends."""
        return EXIT_REQUEUE if self._job_ends else EXIT_RANKS_LOST

    def ends_with(self, codes: list[int | None]) -> int | None:
        """Return the code of the job if another attempt has to wait for its requeue."""
        if NodeError.exit_code in codes and not self._job_ends:
            return NodeError.exit_code  # the batch script asks for a job without the unfit node
        return EXIT_REQUEUE if self._job_ends or self._is_too_late() else None

    def _is_too_late(self) -> bool:
        if self._deadline_s is None:
            return False
        lead_s = self.run.read_job().get("lead_s")
        needed_s = (lead_s if is_count(lead_s) else 0) + _WORTH_A_START_S
        return time.time() > self._deadline_s - needed_s

    def _wait_for_others(self) -> int:
        return EXIT_FINISHED  # Slurm has waited


def main(arguments: list[str]) -> int:
    """Control the run that the arguments name; return the exit code."""
    run, job_id, address = RunDir(arguments[0]), arguments[1], arguments[2]
    end_with_parent()
    text = os.environ.get(DEADLINE, "")
    deadline_s = float(text) if text.isdigit() else None
    allocated = int(os.environ["SLURM_JOB_NUM_NODES"])
    log = run.logs / f"job-{job_id}-nodes.log"
    return control(
        run, address, lambda: ControllerInSlurm(run, job_id, log, allocated, deadline_s), without_node=EXIT_RANKS_LOST
    )


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
