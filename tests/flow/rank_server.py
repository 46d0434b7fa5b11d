"""The program behind `forked_ranks.RankServer`: imports what a rank imports, and forks a rank for each order.

An order is one message over a socket: the run directory, the variables of the environment and the folder to work in,
with three file descriptors. The child does what ``python -m hpctrain.train RUN`` does after its imports, and writes to
the first two. The program writes the pid of the child to the third, and later how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

LARGEST_MESSAGE = 2**20


def preload() -> None:
    """Import what a rank imports, without starting a thread: only then may this process be forked."""
    import h5py  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import torch
    import torch._dynamo  # DistributedDataParallel imports it

    import hpctrain.train.__main__
    import hpctrain.train.attempt
    import hpctrain.train.finish  # noqa: F401

    torch.set_num_threads(1)


def be_rank(order: dict[str, Any], stdout: int, stderr: int) -> None:
    """Become what ``python -m hpctrain.train RUN`` is when its imports are done; does not return."""
    from hpctrain.train import __main__ as trainer

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = [trainer.__file__, order["run"]]
    trainer._end(trainer.main(sys.argv[1:]))


def serve(orders: socket.socket) -> None:
    """Fork a rank for each order until the socket is closed."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    status_of: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([orders, reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            report_ends(status_of)
        if orders in ready:
            message, descriptors, _, _ = socket.recv_fds(orders, LARGEST_MESSAGE, 3)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                be_rank(json.loads(message), *descriptors[:2])
            os.write(descriptors[2], b"%d\n" % pid)
            status_of[pid] = descriptors[2]
            for descriptor in descriptors[:2]:
                os.close(descriptor)


def report_ends(status_of: dict[int, int]) -> None:
    """Tell those who wait how their ranks have ended."""
    while status_of:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(status_of[pid], b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(status_of.pop(pid))


if __name__ == "__main__":
    preload()  # blocks the signals that a starting rank blocks; so they reach no rank before it listens
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.send(b"ready")
    serve(channel)
