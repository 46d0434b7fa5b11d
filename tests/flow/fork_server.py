"""The program behind `forks.ForkServer`: imports what the package imports, and forks for each order.

An order is one message over a socket: a module with its arguments, the variables of the environment and the folder to
work in, with three file descriptors. The child is what ``python -m MODULE ARGUMENTS`` is after its imports, and writes
to the first two. The program writes the pid of the child to the third, and later how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from typing import Any

LARGEST_MESSAGE = 2**20
EARLY = {signal.SIGUSR2, signal.SIGTERM}


def preload() -> None:
    """Import what a rank imports, without starting a thread: only then may this process be forked."""
    import h5py  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import torch
    import torch._dynamo  # DistributedDataParallel imports it

    import hpctrain.train.attempt
    import hpctrain.train.finish  # noqa: F401

    torch.set_num_threads(1)


def become(order: dict[str, Any], stdout: int, stderr: int) -> None:
    """Run the module of an order in this process."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [order["module"], *order["arguments"]]
    if order["module"] != "hpctrain.train":  # which blocks them itself, before its imports
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


def serve(orders: socket.socket) -> dict[str, Any] | None:
    """Fork for each order until the socket is closed; return the order, with its descriptors, in a child only."""
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
            message, (*outputs, status), _, _ = receive(orders)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                for descriptor in (reading, writing, status, *status_of.values()):
                    os.close(descriptor)
                return json.loads(message) | dict(zip(("stdout", "stderr"), outputs, strict=True))
            os.write(status, b"%d\n" % pid)
            status_of[pid] = status
            for descriptor in outputs:
                os.close(descriptor)


def receive(orders: socket.socket) -> tuple[bytes, list[int], int, Any]:
    """Return an order and its three descriptors; an empty one when the socket has been closed."""
    message, descriptors, flags, address = socket.recv_fds(orders, LARGEST_MESSAGE, 3)
    return message, descriptors or [-1, -1, -1], flags, address


def report_ends(status_of: dict[int, int]) -> None:
    """Tell those who wait how their processes have ended."""
    while status_of:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(status_of[pid], b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(status_of.pop(pid))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)  # they reach no child before it is one
    preload()
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.send(b"ready")
    if (order := serve(channel)) is not None:
        become(order, order["stdout"], order["stderr"])
