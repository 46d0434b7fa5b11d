"""Which process wrote this, and does it still live? Answered without clocks, and only where it can be known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """Return what tells this process from every other one, on this host and on others.

    Returns
    -------
    dict
        ``pid``, the ``boot_id`` of the running kernel, the ``pid_namespace`` (a container has its own numbers) and
        ``started_ticks``, since a number is given again to later processes. None for what the system does not say.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = None
    return {
        "pid": os.getpid(),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": namespace,
        "started_ticks": _started_ticks(os.getpid()),
    }


def is_gone(found: dict[str, Any] | None) -> bool | None:
    """Whether the process with that identity has ended; None where it cannot be seen from here.

    Host names are not asked: in containers every host may have the same one.
    """
    mine = identity()
    for name in ("boot_id", "pid_namespace"):
        if not found or mine[name] is None or found.get(name) != mine[name]:
            return None
    ticks = _started_ticks(found["pid"])
    return ticks is None or ticks != found.get("started_ticks")


def _started_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None where there is none, or only its zombie."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # the command before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
