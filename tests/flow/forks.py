"""Ranks and commands as forks of one process that has imported torch, which takes each of them seconds otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import wait_until

WARM_PYTHON = """\
#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
from warm_python import main
main({python!r}, {door!r})
"""


class Forked:
    """A process that `ForkServer` has started, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, connection: socket.socket, stdout: Path, stderr: Path) -> None:
        self._connection = connection
        self._stdout, self._stderr = stdout, stderr
        self.pid = int(connection.recv(32))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative after a signal; None while it lives."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._connection.recv(32))
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        wait_until(lambda: self.poll() is not None, f"process {self.pid} to end", timeout, pause_s=0.005)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for the end; return what was written to standard output and to standard error."""
        self.wait(timeout)
        return self._stdout.read_text(), self._stderr.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A process that has imported what a rank imports, and forks.

    Attributes
    ----------
    python : str
        Path of a Python whose imports are done; see `warm_python`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="hf-", dir="/tmp"))  # the path of a socket has 107 bytes at most
        self._door = str(self._short / "door")
        here = Path(__file__).parent
        self.python = str(self._short / "python")
        Path(self.python).write_text(WARM_PYTHON.format(python=sys.executable, folder=str(here), door=self._door))
        os.chmod(self.python, 0o755)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(self._door)
            door.listen(128)
            numbers = [door.fileno(), theirs.fileno()]
            command = [sys.executable, str(here / "fork_server.py"), self.python, *map(str, numbers)]
            self._process = subprocess.Popen(command, pass_fds=numbers)
        assert self._socket.recv(16) == b"ready"

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> Forked:
        """Start ``python -m MODULE ARGUMENTS`` in `folder`, by default the current one."""
        output = Path(tempfile.mkdtemp(dir=self._folder))
        order = {"module": module, "arguments": list(arguments)}
        order |= {"environment": dict(environment), "folder": str(folder or Path.cwd())}
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._door)
        with open(os.devnull) as nothing, open(output / "stdout", "w") as out, open(output / "stderr", "w") as err:
            descriptors = [nothing.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(connection, [json.dumps(order).encode()], descriptors)
        return Forked(connection, output / "stdout", output / "stderr")

    def close(self) -> None:
        self._socket.close()  # which ends the process
        self._process.wait()
        shutil.rmtree(self._short, ignore_errors=True)
