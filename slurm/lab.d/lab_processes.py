"""Which processes belong to a lab, and how they are ended: by pid file, cgroup, open log or environment, never by name.

A pid alone is not trusted, since it may be another process by now: each is looked at in /proc before it is signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def _read(path: Path) -> bytes:
    """Contents of a file in /proc; empty where the process has gone or is not ours."""
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
    """Whether a Slurm daemon (slurmstepd has neither pid file nor readable environment) writes a log of this lab."""
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
    """Whether the process was started by a job of this lab."""
    variables = _read(process / "environ").split(b"\0")
    return b"SLURM_CONF=" + os.fsencode(conf) in variables and any(v.startswith(b"SLURM_JOB_ID=") for v in variables)


def node_cgroups(nodes: Iterable[str]) -> list[Path]:
    """Return the cgroups slurmd made for these nodes; they are global to the machine, hence unique node names."""
    root = Path("/sys/fs/cgroup")
    return [group for node in nodes for group in root.glob(f"*/slurm_{node}") if group.is_dir()]


def job_pids(directory: Path, conf: Path, nodes: Iterable[str]) -> set[int]:
    """Return the processes of this lab's jobs and their slurmstepd, re-parented ones included."""
    pids: set[int] = set()
    for group in node_cgroups(nodes):
        for procs in group.rglob("cgroup.procs"):
            pids.update(int(pid) for pid in _read(procs).split())
    for process in Path("/proc").glob("[0-9]*"):
        if _has_open_log(process, directory) or _runs_in_a_job(process, conf):
            pids.add(int(process.name))
    return pids - {0, 1, os.getpid(), os.getppid()}


def send(pids: Iterable[int], which: signal.Signals) -> None:
    """Signal each of these processes that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, which)


def end(pids: Iterable[int], patience_s: float) -> None:
    """Ask processes to end, wait at most `patience_s`, then kill what is left."""
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
