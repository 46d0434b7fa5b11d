"""A Python that has done its imports: trainer, estimates and reports run in a fork of the process that has done them.

`forks.ForkServer` writes a program that calls `main`; tests put its path where the package looks for its Python,
``sys.executable``. The fork gets arguments, environment, folder and standard streams of this process, which passes
signals on and ends as the fork does. If this process is killed, so is the fork.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

WARM = (
    "hpctrain",
    "hpctrain.local",
    "hpctrain.train",
    "hpctrain.train.memory",
    "hpctrain.search.pool",
    "hpctrain.search.rank",
    "benchmarks.gpu",
)
"""Modules that become forks; the imports of others are their own."""

PASSED_ON = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)


def main(python: str, door: str) -> None:
    """Become ``python`` or wait for a fork, by the arguments of this process.

    Parameters
    ----------
    python : str
        Path of the real Python.
    door : str
        Path of the socket of the process that forks.
    """
    given = sys.argv[1:]
    arguments = given[1:] if given[:1] == ["-u"] else given
    if arguments[:1] != ["-m"] or arguments[1] not in WARM:
        os.execv(python, [python, *given])
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(door)
        order = {"module": arguments[1], "arguments": arguments[2:]}
        order |= {"environment": dict(os.environ), "folder": os.getcwd()}
        socket.send_fds(connection, [json.dumps(order).encode()], [0, 1, 2])
        pid = int(connection.recv(32))
        for number in PASSED_ON:
            signal.signal(number, lambda received, frame: os.kill(pid, received))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        code = int(connection.recv(32))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
