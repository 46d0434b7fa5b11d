"""Ranks and commands as forks of one process that has imported torch, which takes each of them seconds otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import wait_until


class Forked:
    """A process that `ForkServer` has started, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(self, status: int, stdout: Path, stderr: Path) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self._stdout, self._stderr = stdout, stderr
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative after a signal; None while it lives."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
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
    """A process that has imported what a rank imports, and forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        assert self._socket.recv(16) == b"ready"

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> Forked:
        """Start ``python -m MODULE ARGUMENTS`` in `folder`, by default the current one."""
        output = Path(tempfile.mkdtemp(dir=self._folder))
        order = {"module": module, "arguments": list(arguments)}
        order |= {"environment": dict(environment), "folder": str(folder or Path.cwd())}
        with open(output / "stdout", "w") as stdout, open(output / "stderr", "w") as stderr:
            reading, writing = os.pipe()
            descriptors = [stdout.fileno(), stderr.fileno(), writing]
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            os.close(writing)
        return Forked(reading, output / "stdout", output / "stderr")

    def close(self) -> None:
        self._socket.close()  # which ends the process
        self._process.wait()
