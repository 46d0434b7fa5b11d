"""Start the ranks of one attempt on this machine with torchrun's variables, end them together, leave none behind."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpctrain.errors import EXIT_FINISHED

_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


class LocalRanks:
    """The processes of one attempt.

    As a context manager it kills all processes that still run at the end of the block.

    Parameters
    ----------
    command : sequence of str
        The trainer and its run directory, the same for all ranks.
    world_size : int
        Number of ranks to start here.
    log_path : callable
        Returns the path of the log of a rank; the output of the rank is appended to it.
    environment : mapping
        Variables that the ranks inherit; torchrun's variables are added.
    place : callable, optional
        Returns torchrun's variables of a rank by its number on this machine; None means that all ranks of the job are
        on this machine.
    """

    def __init__(
        self,
        command: Sequence[str],
        world_size: int,
        log_path: Callable[[int], Path],
        environment: Mapping[str, str],
        place: Callable[[int], Mapping[str, str]] | None = None,
    ) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.first_failure: int | None = None
        place = place or functools.partial(torchrun_variables, world_size=world_size, port=free_port())
        try:
            for rank in range(world_size):
                with open(log_path(rank), "ab") as log:
                    self.processes.append(
                        subprocess.Popen(
                            command,
                            env={**environment, **place(rank)},
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,  # Ctrl-C reaches only the parent, which decides
                            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                        )
                    )
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> LocalRanks:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def codes(self) -> list[int | None]:
        """Return the exit code of each rank: negative if a signal ended the rank, None while it lives."""
        for process in self.processes:
            if process.returncode is None and process.poll() is not None:
                _kill_group(process.pid)  # the processes it had started, such as the writer of the report
        return [process.returncode for process in self.processes]

    def living(self) -> list[int]:
        """Return the ranks that have not ended."""
        return [rank for rank, code in enumerate(self.codes()) if code is None]

    def signal(self, number: int, ranks: Sequence[int] | None = None) -> None:
        """Send a signal to some ranks, or to all; ranks that have ended are skipped."""
        for rank in self.living():
            if ranks is None or rank in ranks:
                self.processes[rank].send_signal(number)

    def join(
        self, grace_s: float, stop: Callable[[], bool] = lambda: False, say: Callable[[str], None] = lambda text: None
    ) -> list[int]:
        """Wait for all ranks; when one fails, or `stop` returns True, end the others as srun does.

        Parameters
        ----------
        grace_s : float
            Time from TERM to KILL [s].
        stop : callable
            Returns whether the ranks shall stop; called at every poll.
        say : callable
            Called with a message when ranks had to be killed.

        Returns
        -------
        list of int
            Exit code of each rank; ``first_failure`` keeps that of the first rank that failed.
        """
        kill_at: float | None = None
        while None in (codes := self.codes()):
            if self.first_failure is None:
                self.first_failure = next((code for code in codes if code not in (None, EXIT_FINISHED)), None)
            if kill_at is None and (self.first_failure is not None or stop()):
                self.signal(signal.SIGTERM)
                kill_at = time.monotonic() + grace_s
            elif kill_at is not None and time.monotonic() > kill_at:
                say(f"ranks did not exit within {grace_s:.0f} s and are killed")
                self.signal(signal.SIGKILL)
                kill_at = float("inf")
            time.sleep(_POLL_S)
        ended = [process.returncode for process in self.processes]
        if self.first_failure is None:
            self.first_failure = max(ended, key=abs) or None
        return ended

    def kill(self) -> None:
        """End all ranks and the processes that they have started, at once."""
        for process in self.processes:
            if process.returncode is None:
                _kill_group(process.pid)
        for process in self.processes:
            process.wait()


def _kill_group(pid: int) -> None:
    """Kill the process group of a rank.

    Call it while the rank lives or has only just ended: the system gives its number to another process later.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def torchrun_variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return the variables that torchrun would set for a rank of `world_size` on this machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """Return a TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """Let the kernel end this rank when its parent is killed, so that no rank continues to write alone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
