"""Read files of the kernel that hold one value each; a value that cannot be read is None, never 0."""

from __future__ import annotations

import os
from pathlib import Path

from hpctrain.errors import SiteError
from hpctrain.monitor.board import unfolded

ROOT_VARIABLE = "HPCTRAIN_SYSFS_ROOT"
"""Environment variable with the folder in which sensors look for ``sys``, ``proc``, ``etc`` and ``var`` instead of
``/``, such as a mount of the host in a container; or the text file of a recorded machine
(:mod:`hpctrain.monitor.board`)."""


def sysfs_root() -> Path:
    """Return the folder below which sensors look; ``/`` unless the environment names another.

    Raises
    ------
    SiteError
        The environment names a path that does not exist, or a file that is no recorded machine.
    """
    name = os.environ.get(ROOT_VARIABLE)
    path = Path(name or "/")
    if path.is_file():
        return unfolded(path.absolute())
    if not path.is_dir():
        raise SiteError(
            f"{ROOT_VARIABLE}={name}: no such folder or file; give a folder that holds sys and proc, the .txt file of "
            "a recorded machine, or unset the variable to read the sensors of this machine"
        )
    return path


def read_text(path: Path) -> str | None:
    """Return the contents without the blanks around them; None if the file cannot be read.

    A block that is powered off returns EIO or EAGAIN, and a file for root only returns EACCES; neither is a reading.
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
    """Return the contents as a number; None if it is not one."""
    text = read_text(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None
