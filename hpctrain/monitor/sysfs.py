"""Files of the kernel that hold one value each: what cannot be read is None, never 0."""

from __future__ import annotations

import os
from pathlib import Path

ROOT_VARIABLE = "HPCTRAIN_SYSFS_ROOT"
"""Folder that stands for ``/`` where sensors look for ``sys``, ``proc``, ``etc`` and ``var``: a container's view of its
host, or a recorded machine in a test."""


def sysfs_root() -> Path:
    """Return the folder below which sensors look; ``/`` unless the environment says otherwise."""
    return Path(os.environ.get(ROOT_VARIABLE) or "/")


def read_text(path: Path) -> str | None:
    """Return the contents without the blanks around them; None where the kernel does not tell.

    A block that is powered off answers EIO or EAGAIN, a file for root only EACCES: all of it is no reading.
    """
    try:
        # Not Path.read_text: a sample reads dozens of files of a few bytes, and buffers would cost more than the reads.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 65536).decode("utf-8", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """Return the contents as a number; None where there is none."""
    text = read_text(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None
