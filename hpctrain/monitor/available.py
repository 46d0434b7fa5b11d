"""How much memory this node has left for the job: what the kernel says, or less where the queue set a limit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_AVAILABLE_KIB = re.compile(r"^MemAvailable:\s*(\d+) kB", re.MULTILINE)
_NO_LIMIT = 1 << 60


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that can still be taken; None where the system does not say.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    found = []
    with contextlib.suppress(OSError):
        match = _AVAILABLE_KIB.search((root / "proc/meminfo").read_text())
        found += [int(match[1]) * 1024] if match else []
    found += _left_in_groups(root)
    return min(found, default=None)


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what each control group around this process still allows; page cache that can be dropped is free."""
    names = ("memory.max", "memory.current", "inactive_file")
    names_v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for base, group in _groups(root):
        limit, used, droppable = names if (base / "cgroup.controllers").exists() else names_v1
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # the root has no limit, "max" is no number
                allowed = int((folder / limit).read_text())
                if allowed < _NO_LIMIT:
                    cache = re.search(rf"^{droppable} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                    yield max(0, allowed - int((folder / used).read_text()) + (int(cache[1]) if cache else 0))
            if folder == base:
                break


def _groups(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the hierarchy and the group in it that govern the memory of this process, in version 1 and 2."""
    text = ""
    with contextlib.suppress(OSError):
        text = (root / "proc/self/cgroup").read_text()
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup" / ("" if controllers == "" else "memory")
            yield base, base / path.lstrip("/")
