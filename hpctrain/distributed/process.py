"""Identity of a process, and whether it is alive. The answer needs no clock, and is None where it cannot be known."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """Return an identity that no other process has, on this host or another.

    Returns
    -------
    dict
        ``pid``, the ``boot_id`` of the running kernel, the ``pid_namespace`` (a container has its own process numbers)
        and ``started_ticks``, because process numbers are reused. None for a value that the system does not report.
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


def boot_ticks() -> int | None:
    """Return the clock ticks since boot, as ``started_ticks`` counts them; None where there is no such clock."""
    try:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError):
        return None


def is_gone(found: dict[str, Any] | None) -> bool | None:
    """Return whether the process with that identity has ended; None where it cannot be seen from here.

    Host names do not count: in containers every host may have the same one.
    """
    mine = identity()
    for name in ("boot_id", "pid_namespace"):
        if not found or mine[name] is None or found.get(name) != mine[name]:
            return None
    if "pid" not in found:
        return None
    ticks = _started_ticks(found["pid"])
    return ticks is None or ticks != found.get("started_ticks")


def send_signal(found: dict[str, Any] | None, number: signal.Signals) -> bool:
    """Send a signal to the process with that identity, if it is proved to be alive here and to belong to this user.

    Anybody may have written the identity into a file. So the process number counts only together with the boot id, the
    namespace and the start time, and the process must have the same user id as this one.

    Parameters
    ----------
    found : dict or None
        Identity that :func:`identity` returned in that process.
    number : signal.Signals

    Returns
    -------
    bool
        False where nothing was sent.
    """
    pid = (found or {}).get("pid", 0)
    if pid <= 1 or is_gone(found) is not False:
        return False
    with contextlib.ExitStack() as opened:
        descriptor = _open_process(pid)
        if descriptor is not None:
            opened.callback(os.close, descriptor)
        # Check again: while the descriptor is open, no other process can get this number.
        if is_gone(found) is not False or _owner(pid) != os.geteuid():
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if descriptor is not None:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(pid, number)
            return True
    return False


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None  # a kernel before 5.3


def _owner(pid: int) -> int | None:
    """Return the effective user id of a process; None where it cannot be seen."""
    for line in (_read(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None


def _started_ticks(pid: int) -> int | None:
    """Return the clock ticks from boot to the start of a process; None where there is none, or only a zombie."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # the command in the parentheses may hold any characters
    return None if len(fields) < 20 or fields[0] in "ZX" else int(fields[19])


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
