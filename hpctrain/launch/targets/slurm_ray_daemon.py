"""Ray's own processes on one node of a Slurm job: their ports, their folder, and their end.

Several jobs may share a node, and other users too. So each Ray has ports that were free when it started, a folder that
only its user may read, and the token of its job.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpctrain.errors import SiteError
from hpctrain.launch.targets.ray_cluster import QUIET

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray would take 30 % of the memory of the node; the ranks put nothing there."""
_RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", "--log-style=record"]
_ANY_PORT = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
"""Those that are not "any port that is free" by default."""
_OF_RAY = "r"
"""Folder that Ray makes for its files and opens to all users; the one around it is closed to others."""
_IS_UP = "ray_current_cluster"
"""File in there that a head writes when it is up."""
_SETTINGS = {
    "RAY_worker_niceness": "0",  # ranks would inherit 15
    "RAY_memory_monitor_refresh_ms": "0",  # it looks at the whole node, whose memory Slurm has shared out
}
_LAST_WORDS = 4
"""Number of lines that say why Ray has ended; those before them say how to use it."""
_POLL_S = 0.05
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class RayDaemon:
    """``ray start`` on this node, which stays in the foreground.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` of the head.
    options : sequence of str
        Of ``ray start``.
    bundle : mapping
        What this node has, as ``ray.json`` says it.
    folder : Path
        For its files.
    """

    def __init__(self, address: str, options: Sequence[str], bundle: Mapping[str, float], folder: Path) -> None:
        self.address, self._folder = address, folder
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self._log = folder / f"start-{os.getpid()}.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*_RAY, *_ANY_PORT, *resources(bundle), *options],
                env={**environment, **QUIET, **_SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=children_die_with_us,
            )

    @classmethod
    def head(cls, host: str, folder: Path, bundle: Mapping[str, float]) -> RayDaemon:
        """Start the head on ports that are free, with its files in `folder`."""
        port, port_of_clients = free_ports(host, 2)
        (folder / _OF_RAY / _IS_UP).unlink(missing_ok=True)
        options = [
            "--head",
            "--include-dashboard=false",
            f"--node-ip-address={host}",
            f"--port={port}",
            f"--ray-client-server-port={port_of_clients}",
            f"--temp-dir={folder / _OF_RAY}",
        ]
        return cls(f"{host}:{port}", options, bundle, folder)

    @classmethod
    def other(cls, address: str, host: str, folder: Path, bundle: Mapping[str, float]) -> RayDaemon:
        """Join the head at `address`, which has told Ray the folder."""
        return cls(address, [f"--address={address}", f"--node-ip-address={host}"], bundle, folder)

    def is_alive(self) -> bool:
        """Return whether Ray runs; if one of its processes dies, all of them end."""
        return self._process.poll() is None

    def has_head(self) -> bool:
        """Return whether the head is up."""
        return (self._folder / _OF_RAY / _IS_UP).exists()

    def last_words(self) -> str:
        """Return the end of what ``ray start`` has printed."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            return "; ".join(line.strip() for line in lines[-_LAST_WORDS:])[-1500:]
        return ""


def resources(bundle: Mapping[str, float]) -> list[str]:
    """Return the options of ``ray start`` for a node that has just what an attempt asks of each node."""
    import json

    left = dict(bundle)
    options = [f"--num-cpus={left.pop('CPU'):g}", f"--num-gpus={left.pop('GPU', 0):g}"]
    if (memory := left.pop("memory", None)) is not None:
        options.append(f"--memory={int(memory)}")
    if left:
        options.append(f"--resources={json.dumps(left)}")
    return [*options, f"--object-store-memory={OBJECT_STORE_BYTES}"]


def free_ports(host: str, number: int) -> list[int]:
    """Return ports of `host` that nobody listens on at this moment; Ray is started again if somebody is faster."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]


def own_address(toward: str) -> str:
    """Return the address of this node by which others reach it.

    Parameters
    ----------
    toward : str
        Name or address of the first node: it says which network the nodes share. Where that is the loopback, the
        network of the default route is.
    """
    with contextlib.suppress(OSError):
        toward = socket.gethostbyname(toward)
    if not toward or toward.startswith("127."):
        toward = "192.0.2.1"  # no packet is sent; the address is one of documentation
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((toward, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostbyname(socket.gethostname())


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder of this node for the files of Ray; its path is short, because sockets lie there."""
    with shared_folder(Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))) as folder:
        yield folder


@contextlib.contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """Use a folder of this node as long as the block lasts; the last one of its users here removes it.

    Raises
    ------
    SiteError
        Somebody else has made it.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    owner = os.lstat(folder)
    if owner.st_uid != os.geteuid() or folder.is_symlink():
        raise SiteError(f"{folder} on {os.uname().nodename} belongs to somebody else; Ray would put its files there")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield folder
    finally:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def adopt_orphans() -> None:
    """Let processes whose parent below us dies become our children, so that none of them escapes."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children_die_with_us() -> None:
    """Prepare a child: it gets TERM when we die, and ignores the warnings of Slurm, which are for us alone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def descendants() -> list[tuple[int, list[str]]]:
    """Return all processes below this one, with the words of their commands; those that have ended are left out."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(path.parent.name)] = int(parent)
    found = []
    for pid in parents:
        above, seen = pid, 0
        while (above := parents.get(above, 0)) > 1 and above != os.getpid() and seen < len(parents):
            seen += 1
        if above == os.getpid():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                found.append((pid, [word for word in words if word]))
    return found


def kill_descendants() -> None:
    """Kill all processes below this one, and bury them; among them are those that we have adopted.

    Slurm waits seconds before it kills this process too, and nothing that Ray knows is of any use to the next job.
    """
    while there := descendants():
        for pid, _ in there:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_POLL_S)
