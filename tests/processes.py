"""Which processes a test started, and how they are ended: the children that live, and orphans that carry our mark."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from multiprocessing import resource_tracker
from pathlib import Path

MARK = "PYTEST_SESSION_MARK"
"""Variable of the environment that every process started by this session of tests inherits."""

PATIENCE_S = 600.0
"""How long a test waits for what must happen, on a machine that may be very busy; a test that passes waits less."""


def wait_until(
    condition: Callable[[], object], what: object = "", patience_s: float = PATIENCE_S, pause_s: float = 0.02
) -> None:
    """Wait until ``condition()`` is true; ask every `pause_s` seconds.

    Raises
    ------
    AssertionError
        It is not within `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what or condition}"
        time.sleep(pause_s)


def shared_memory() -> list[str]:
    """Return the names in ``/dev/shm``, but for what tests in other processes have there: folders, and PostgreSQL's."""
    found = [path.name for path in Path("/dev/shm").iterdir() if not path.is_dir()]
    return sorted(name for name in found if not name.startswith("PostgreSQL."))


def children() -> set[int]:
    """Return the living descendants of this process.

    Neither those that have ended and wait to be reaped, nor the resource trackers of multiprocessing: a tracker ends by
    itself with the process that it serves, which complains if somebody has ended it before. Nor what a PostgreSQL
    server has started: if one of these is killed, the server ends all the others, too.
    """
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        new = _children_of(waiting.pop()) - found
        found |= new
        waiting += [pid for pid in new if _name_of(pid) != "postgres"]
    return {pid for pid in found if _state(pid) not in ("Z", "") and not _is_resource_tracker(pid)}


def _children_of(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(OSError):  # the process ends while its folder is listed
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found |= {int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()}
    return found


def _name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def orphans() -> set[int]:
    """Return processes of this session whose parents have gone; those of a Slurm lab are the lab's to end."""
    mark = f"{MARK}={os.environ.get(MARK, 'none')}".encode()
    ours = {os.getpid(), *children()}
    found = set()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if mark in variables and not any(item.startswith((b"SLURM_CONF=", b"SLURM_JOB_ID=")) for item in variables):
                found.add(pid)
    return found - ours


def end(pids: Iterable[int]) -> None:
    """Kill processes, wait until they have ended, and note their end in the Popen objects that started them.

    Such an object then does not warn in another test. A process that is just ending, or has ended, is no error.
    """
    pids = set(pids)
    if not pids:
        return
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # isinstance() would ask each object for its class, and some objects of torch answer with a warning.
    for process in [item for item in gc.get_objects() if issubclass(type(item), subprocess.Popen)]:
        if process.pid in pids and process.returncode is None:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
    wait_until(lambda: not any(_state(pid) not in ("Z", "") for pid in pids), f"the end of {sorted(pids)}")


def _is_resource_tracker(pid: int) -> bool:
    # Between its fork and its exec, the tracker still has the command line of this process.
    if pid == getattr(resource_tracker._resource_tracker, "_pid", None):
        return True
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
