"""``python -m hpctrain.launch.targets.slurm_ray_node RUN_DIR``: one node of the Ray of a Slurm job.

``srun`` starts it once on each node. The first one starts the head of Ray and the controller of the run
(:mod:`hpctrain.launch.targets.slurm_ray_controller`), and writes where the head is; the others join it, and again if
Ray dies on their node. USR1, USR2 and TERM mean that the job ends: the ranks save. Then no process of Ray and no folder
of its own stays behind, unless Slurm kills this process before it is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpctrain.access import enter
from hpctrain.credentials.hide import error_line, hide_in_tracebacks
from hpctrain.errors import EXIT_FINISHED, EXIT_RANKS_LOST, EXIT_REQUEUE, HpctrainError, NodeError
from hpctrain.launch.history import USER_ERRORS
from hpctrain.launch.targets.ray_cluster import need_ray
from hpctrain.launch.targets.slurm_ray_daemon import (
    RayDaemon,
    adopt_orphans,
    children_die_with_us,
    descendants,
    kill_descendants,
    own_address,
    private_folder,
    shared_folder,
)
from hpctrain.rundir import RunDir, note_bad_nodes, read_json, write_atomic, write_json

CONTROLLER_MODULE = "hpctrain.launch.targets.slurm_ray_controller"
_POLL_S = 0.5
_ENDS_POLL_S = 0.1
_HEAD_WITHIN_S = 600.0
"""How long the others wait for the head [s]."""
_STARTS = 5
"""How often a node starts Ray again before it counts as unfit."""
_CONTROLLER_ENDS_WITHIN_S = 20.0
"""Time for the controller after the ranks of its node have ended, or after Ray has died here [s]."""


class NodeInSlurm:
    """This node of the job.

    Parameters
    ----------
    run : RunDir
        Its ``ray.json`` says what a node has.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.is_leaving = False
        self._warned: set[int] = set()
        job, restart = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
        self.job_id, self.is_first = job, os.environ["SLURM_NODEID"] == "0"
        self._head = run.attempts / f"ray-{job}.{restart}.json"
        self._code = run.attempts / f"ray-{job}.{restart}.code"
        self._bundle = dict(read_json(run.path / "ray.json")["bundle_of_each_node"])

    def live(self) -> int:
        """Be this node until the job ends; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._note_end)
        need_ray("launch.engine: ray")
        if not self.is_first:
            return self._be_another()
        try:
            code = self._be_first()
        except HpctrainError as error:
            write_atomic(self._code, f"{error.exit_code}\n")
            raise
        finally:
            self._head.unlink(missing_ok=True)
        write_atomic(self._code, f"{code}\n")
        return code

    def _note_end(self, number: int, frame: object) -> None:
        self.is_leaving = True

    def _be_first(self) -> int:
        for path in self.run.attempts.glob(
            "ray-*"
        ):  # of a job that was killed; what is left of it sees that it is over
            path.unlink(missing_ok=True)
        address = own_address(os.environ.get("MASTER_ADDR", ""))
        with private_folder() as folder:
            for _ in range(_STARTS):
                daemon = RayDaemon.head(address, folder, self._bundle)
                if self._is_up(daemon):
                    break
                kill_descendants()
                if self.is_leaving:
                    return EXIT_REQUEUE
                _say(f"Ray does not start on {_here()}: {daemon.last_words()}")
            else:
                self._unfit()
            try:
                _say(f"Ray answers at {daemon.address}")
                return self._control(daemon, folder)
            finally:
                self._head.unlink(missing_ok=True)
                self._end()

    def _is_up(self, daemon: RayDaemon) -> bool:
        while daemon.is_alive() and not self.is_leaving:
            if daemon.has_head():
                return True
            time.sleep(_POLL_S)
        return False

    def _control(self, daemon: RayDaemon, folder: Path) -> int:
        """Run the controller until the run or the job ends; return the code of the job."""
        controller = subprocess.Popen(
            [sys.executable, "-u", "-m", CONTROLLER_MODULE, str(self.run.path), self.job_id, daemon.address],
            env={**os.environ, "RAY_ADDRESS": daemon.address},
            stderr=subprocess.STDOUT,
            preexec_fn=children_die_with_us,
        )
        write_json(self._head, {"address": daemon.address, "folder": str(folder)})
        is_told, kill_at = False, float("inf")
        while controller.poll() is None:
            if self.is_leaving and not is_told:
                is_told = True
                self._warn_ranks()
                controller.terminate()
            if (daemon.is_alive() and not is_told) or self._ranks():
                kill_at = float("inf")
            elif kill_at == float("inf"):
                kill_at = time.monotonic() + _CONTROLLER_ENDS_WITHIN_S
            elif time.monotonic() > kill_at:
                controller.kill()
            time.sleep(_ENDS_POLL_S if is_told else _POLL_S)
        code = controller.returncode
        if code in (EXIT_FINISHED, *USER_ERRORS):
            return code
        if self.is_leaving:
            return EXIT_REQUEUE
        return code if code > 0 else EXIT_RANKS_LOST

    def _be_another(self) -> int:
        """Join the head, and again after Ray has died here, until the head has ended."""
        until_s = time.monotonic() + _HEAD_WITHIN_S
        while not (head := read_json(self._head)):
            if self.is_leaving:
                return EXIT_FINISHED
            if time.monotonic() > until_s:
                _say(f"the first node has not started Ray within {_HEAD_WITHIN_S:.0f} s")
                return EXIT_RANKS_LOST
            time.sleep(_POLL_S)
        host = own_address(head["address"].rpartition(":")[0])
        with shared_folder(Path(head["folder"])) as folder:
            for _ in range(_STARTS):
                daemon = RayDaemon.other(head["address"], host, folder, self._bundle)
                while daemon.is_alive() and not self.is_leaving and self._head.exists():
                    time.sleep(_POLL_S)
                is_over = self.is_leaving or not self._head.exists()
                self._end()
                if is_over:
                    return EXIT_FINISHED
                _say(f"Ray has died on {_here()}; it starts again. Its last words: {daemon.last_words()}")
        self._unfit()
        return EXIT_RANKS_LOST

    def _ranks(self) -> list[int]:
        """Return the processes of ranks of this node, and of those that wait for them."""
        return [pid for pid, words in descendants() if words[-1:] == [str(self.run.path)]]

    def _warn_ranks(self) -> None:
        """Send TERM to ranks, once: a second one would end them before they have saved."""
        for pid in set(self._ranks()) - self._warned:
            self._warned.add(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def _end(self) -> None:
        """Let the ranks save, which need no Ray for it, then end all that Ray runs on this node."""
        self._warn_ranks()
        while self._ranks():
            time.sleep(_ENDS_POLL_S)
        kill_descendants()

    def _unfit(self) -> None:
        note_bad_nodes(self.run, [_here()], self.job_id)
        raise NodeError(f"Ray does not start on {_here()}; its words are above", [_here()])


def _here() -> str:
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Be one node of the job that runs the run which the argument names; return the exit code."""
    run = RunDir(Path(arguments[0]))
    adopt_orphans()
    try:
        enter(run.path)
        run.make_folders()
        return NodeInSlurm(run).live()
    except HpctrainError as error:
        _say(error_line(error))
        return error.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
