"""Which processes a test started, and how they are ended: the children that live, and orphans that carry our mark."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
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


def children() -> set[int]:
    """Return the living descendants of this process; those that have ended and wait to be reaped are none."""
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                new = {int(pid) for pid in path.read_text().split()} - found
                found |= new
                waiting += new
    return {pid for pid in found if _state(pid) not in ("Z", "")}


def orphans() -> set[int]:
    """Return processes of this session whose parents have gone; those of a Slurm lab are the lab's to end."""
    mark = f"{MARK}={os.environ.get(MARK, 'none')}".encode()
    ours = {os.getpid(), *children()}
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            variables = path.read_bytes().split(b"\0")
            if mark in variables and not any(item.startswith((b"SLURM_CONF=", b"SLURM_JOB_ID=")) for item in variables):
                found.add(int(path.parent.name))
    return found - ours


def end(pids: Iterable[int]) -> None:
    """Kill processes, and take note of their end in the Popen objects that started them, which then warn nobody."""
    pids = set(pids)
    if not pids:
        return
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in [item for item in gc.get_objects() if isinstance(item, subprocess.Popen)]:
        if process.pid in pids and process.returncode is None:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
