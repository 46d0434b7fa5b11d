"""The processes of a pretend node: those of Slurm, those of jobs, and what can be read about them in /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from slurm_cluster import SlurmCluster


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal those processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_at_work(pid: int) -> bool:
    """Whether a process has neither gone nor ended; a parent that is stopped does not take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_of(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in text.split("\0") if "=" in word)


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def daemons(cluster: SlurmCluster, node: str) -> list[int]:
    """Return slurmd and the slurmstepd of a node, which write its log."""
    log = f"{cluster.directory}/log/slurmd-{node}.log"
    found = [int((cluster.directory / f"run/slurmd-{node}.pid").read_text())]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.joinpath("comm").read_text().startswith("slurmstepd") and any(
                os.readlink(item) == log for item in path.joinpath("fd").iterdir()
            ):
                found.append(int(path.name))
    return found


def kill_node(cluster: SlurmCluster, node: str) -> None:
    """End slurmd, its slurmstepd and all they started, as a power cut would."""
    send(daemons(cluster, node), signal.SIGKILL)
    mark = f"SLURMD_NODENAME={node}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
