"""Find the processes of a lab by pid file, cgroup, open log or environment, never by name, and end them.

A pid alone is not enough, because it may belong to another process by now. This module therefore looks at each process
in /proc before it sends a signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def _read(path: Path) -> bytes:
    """Return the contents of a file in /proc; empty if the process has ended or belongs to another user."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def daemon_pid(pid_file: Path, directory: Path) -> int | None:
    """Return the pid in `pid_file` while a daemon of the lab in `directory` runs under it, else None."""
    text = _read(pid_file).strip()
    if not text.isdigit():
        return None
    arguments = _read(Path("/proc") / text.decode() / "cmdline")
    return int(text) if os.fsencode(directory) + b"/" in arguments else None


def _has_open_log(process: Path, directory: Path) -> bool:
    """Return whether a process is a Slurm daemon that writes a log of this lab.

    This finds slurmstepd, which has neither a pid file nor a readable environment.
    """
    if not _read(process / "comm").startswith(b"slurm"):
        return False
    logs = f"{directory}/log/"
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor).startswith(logs):
                    return True
    return False


def _runs_in_a_job(process: Path, conf: Path) -> bool:
    """Return whether a job of this lab started the process."""
    variables = _read(process / "environ").split(b"\0")
    return b"SLURM_CONF=" + os.fsencode(conf) in variables and any(v.startswith(b"SLURM_JOB_ID=") for v in variables)


def node_cgroups(nodes: Iterable[str]) -> list[Path]:
    """Return the cgroups that slurmd made for these nodes; they are global, so node names must be unique."""
    root = Path("/sys/fs/cgroup")
    return [group for node in nodes for group in root.glob(f"*/slurm_{node}") if group.is_dir()]


def job_pids(directory: Path, conf: Path, nodes: Iterable[str]) -> set[int]:
    """Return the processes of this lab's jobs and their slurmstepd, including re-parented ones."""
    pids: set[int] = set()
    for group in node_cgroups(nodes):
        for procs in group.rglob("cgroup.procs"):
            pids.update(int(pid) for pid in _read(procs).split())
    for process in Path("/proc").glob("[0-9]*"):
        if _has_open_log(process, directory) or _runs_in_a_job(process, conf):
            pids.add(int(process.name))
    return pids - {0, 1, os.getpid(), os.getppid()}


def send(pids: Iterable[int], which: signal.Signals) -> None:
    """Send a signal to each of these processes that still runs."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, which)


def end(pids: Iterable[int], patience_s: float) -> None:
    """Ask processes to end, wait at most `patience_s`, then kill those that still run."""
    left = set(pids)
    send(left, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = {pid for pid in left if _is_running(pid)}
    send(left, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(state) and state[0] != b"Z"


def remove_cgroups(nodes: Iterable[str]) -> None:
    """Remove the empty cgroups that slurmd leaves behind."""
    for group in node_cgroups(nodes):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
