"""The program behind `forks.ForkServer`: imports what the package imports, and forks for each order.

An order is one message over a socket: a module with its arguments, the variables of the environment and the folder to
work in, with the file descriptors of standard input, output and error. The child is what ``python -m MODULE ARGUMENTS``
is after its imports. Orders come from `forks.ForkServer`, each with a connection of its own, or from `warm_python`; the
program writes the pid of the child to the connection, and later how it ended. If the other end is closed before, the
child is killed.
"""

from __future__ import annotations

import contextlib
import gc
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
    """Import what a rank and the commands after it import, without starting a thread: only then may one fork."""
    gc.disable()
    import h5py  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import torch
    import torch._dynamo  # DistributedDataParallel imports it

    import hpctrain.commands.report
    import hpctrain.report.write
    import hpctrain.train.attempt
    import hpctrain.train.finish  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()  # else the collector of each child would touch, and so copy, all pages
    gc.enable()


def become(order: dict[str, Any], descriptors: list[int]) -> None:
    """Run the module of an order in this process."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    forget_random_state()
    sys.argv = [order["module"], *order["arguments"]]
    if order["module"] != "hpctrain.train":  # which blocks them itself, before its imports
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


def forget_random_state() -> None:
    """Let random numbers that nobody has seeded differ from process to process, as they do after a start."""
    import random

    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    torch.seed()


class Children:
    """The processes that were forked, and the connections of those who ordered them."""

    def __init__(self) -> None:
        self._connections: dict[int, socket.socket] = {}

    @property
    def connections(self) -> list[socket.socket]:
        return list(self._connections.values())

    def add(self, pid: int, connection: socket.socket) -> None:
        self._connections[pid] = connection
        self._tell(connection, pid)

    def tell_who_ended(self) -> None:
        while self._connections:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._connections.pop(pid)
            self._tell(connection, os.waitstatus_to_exitcode(status))
            connection.close()

    def kill_ordered_by(self, connection: socket.socket) -> None:
        """Kill the child whose orderer has gone."""
        for pid, its_connection in self._connections.items():
            if its_connection is connection:
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _tell(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(b"%d" % number)


def serve(door: socket.socket, owner: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each order until the owner's socket is closed; return the order and descriptors in a child only."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    children = Children()
    waiting: set[socket.socket] = set()
    while True:
        ready, _, _ = select.select([door, owner, reading, *waiting, *children.connections], [], [])
        if reading in ready:
            os.read(reading, 4096)
            children.tell_who_ended()
        if owner in ready:
            return None
        if door in ready:
            waiting.add(door.accept()[0])
        for connection in set(ready) & set(children.connections):
            children.kill_ordered_by(connection)
        for connection in set(ready) & waiting:
            waiting.remove(connection)
            message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_MESSAGE, 3)
            if not message:
                connection.close()
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (door, owner, connection, *waiting, *children.connections):
                    other.close()
                os.close(reading)
                os.close(writing)
                return json.loads(message), descriptors
            children.add(pid, connection)
            for descriptor in descriptors:
                os.close(descriptor)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)  # they reach no child before it is one
    preload()
    sys.executable = sys.argv[1]
    its_door, its_owner = (socket.socket(fileno=int(number)) for number in sys.argv[2:4])
    its_owner.send(b"ready")
    if (found := serve(its_door, its_owner)) is not None:
        become(*found)
