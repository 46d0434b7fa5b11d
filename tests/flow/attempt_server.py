"""Attempts of real runs in forked processes: torch is imported once, an attempt costs a fraction of a second.

Reads one JSON object a line from the socket that its argument names and answers each with the exit codes of the ranks::

    {"run": "/path", "world_size": 1, "cut": {"signal": 10, "at_update": 7, "rank": 0}}
    {"run": "/path", "world_size": 1, "kill_after_s": 0.0123}

A cut sends a real signal to its own process from the clock that the stop request asks once before the first update, and
once in each: in the forward pass of the last micro-batch of that update of this attempt, with gradients half
accumulated. ``kill_after_s`` sends SIGKILL to all ranks from outside.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

HANGS_AFTER_S = 600.0
"""Ranks that have not ended by then are killed, which no test expects."""


class Clock:
    """Stands still; sends `number` to this process when it is asked in the n-th update."""

    def __init__(self, number: int, at_update: int) -> None:
        self._number, self._left = number, at_update + 1

    def __call__(self) -> float:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)
        return 0.0


def be_rank(order: dict[str, Any], rank: int, port: int) -> int:
    from hpctrain.distributed.group import is_lost_peer
    from hpctrain.distributed.stop import StopRequest
    from hpctrain.errors import EXIT_BUG, EXIT_RANKS_LOST, HpctrainError
    from hpctrain.train.attempt import run_attempt

    log = os.open(f"{order['run']}/logs/server-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order["world_size"] > 1:
        place = {"RANK": rank, "WORLD_SIZE": order["world_size"], "LOCAL_RANK": rank}
        place |= {"LOCAL_WORLD_SIZE": order["world_size"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
    os.environ["HPCTRAIN_JOB_ID"] = f"server-{os.getppid()}"
    os.environ["HPCTRAIN_RESTART_COUNT"] = str(order["restart_count"])
    stop = None
    cut = order.get("cut")
    if cut and cut.get("rank", rank) == rank:
        stop = StopRequest(deadline_s=1.0, clock=Clock(cut["signal"], cut["at_update"]))
    try:
        return run_attempt(order["run"], stop)
    except HpctrainError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException as error:
        import traceback

        traceback.print_exc()
        return EXIT_RANKS_LOST if is_lost_peer(error) else EXIT_BUG


def attempt(order: dict[str, Any]) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(order["world_size"]):
        child = os.fork()
        if child == 0:
            code = be_rank(order, rank, port)
            sys.stderr.flush()
            os._exit(code)
        ranks.append(child)
    if "kill_after_s" in order:
        time.sleep(order["kill_after_s"])
        for child in ranks:
            os.kill(child, signal.SIGKILL)
    codes = {}
    hanging = time.monotonic() + HANGS_AFTER_S
    while len(codes) < len(ranks):
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            if time.monotonic() > hanging:
                for other in ranks:
                    if other not in codes:
                        os.kill(other, signal.SIGKILL)
            time.sleep(0.002)
            continue
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child] not in (0, 75, 130):  # as srun --kill-on-bad-exit does it
            for other in ranks:
                if other not in codes:
                    os.kill(other, signal.SIGKILL)
    return [codes[child] for child in ranks]


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(sys.argv[1])
        with channel.makefile("rw") as stream:
            for line in stream:
                stream.write(json.dumps(attempt(json.loads(line))) + "\n")
                stream.flush()
