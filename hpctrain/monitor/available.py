"""Memory of this node that the job can still use: the kernel's figure, or less if the queue has set a limit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_AVAILABLE_KIB = re.compile(r"^MemAvailable:\s*(\d+) kB", re.MULTILINE)
_TOTAL_KIB = re.compile(r"^MemTotal:\s*(\d+) kB", re.MULTILINE)
_NO_LIMIT = 1 << 60


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the available memory [byte]; None where the system does not report it.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    return min((left for left, _ in _left(root)), default=None)


def available_memory_share(root: Path = Path("/")) -> float | None:
    """Return the available share of the node's memory, or of a narrower limit; None if unknown.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    return min((left / allowed for left, allowed in _left(root) if allowed), default=None)


def _left(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the free and the total memory [bytes] of the node and of each control group of this process."""
    with contextlib.suppress(OSError):
        text = (root / "proc/meminfo").read_text()
        available, total = _AVAILABLE_KIB.search(text), _TOTAL_KIB.search(text)
        if available:
            yield int(available[1]) * 1024, int(total[1]) * 1024 if total else 0
    yield from _left_in_groups(root)


def _left_in_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the memory that each control group still allows, and its limit; page cache that can be dropped is free."""
    names = ("memory.max", "memory.current", "inactive_file")
    names_v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for base, group in _groups(root):
        limit, used, droppable = names if (base / "cgroup.controllers").exists() else names_v1
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # the root has no limit, "max" is no number
                allowed = int((folder / limit).read_text())
                if allowed < _NO_LIMIT:
                    cache = re.search(rf"^{droppable} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                    left = max(0, allowed - int((folder / used).read_text()) + (int(cache[1]) if cache else 0))
                    yield left, allowed
            if folder == base:
                break


def _groups(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the hierarchy and the group that limit the memory of this process, for cgroup versions 1 and 2."""
    text = ""
    with contextlib.suppress(OSError):
        text = (root / "proc/self/cgroup").read_text()
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup" / ("" if controllers == "" else "memory")
            yield base, base / path.lstrip("/")
