"""Find the kind of file system of a file, and its striping on Lustre."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/mounts")

_KINDS = {
    "nfs": "network",
    "nfs4": "network",
    "cifs": "network",
    "smb3": "network",
    "9p": "network",
    "fuse.sshfs": "network",
    "lustre": "parallel",
    "gpfs": "parallel",
    "beegfs": "parallel",
    "ceph": "parallel",
    "panfs": "parallel",
    "wekafs": "parallel",
    "tmpfs": "memory",
    "ramfs": "memory",
}
_LFS_TIMEOUT_S = 10


@dataclass(frozen=True)
class FileSystem:
    """The file system of a file.

    Parameters
    ----------
    type : str
        The kernel's name of the type; ``unknown`` if there is no list of mounts.
    kind : str
        ``local``, ``network`` (one server), ``parallel`` (many) or ``memory``.
    mount : str
        Mount point.
    stripe_count, stripe_bytes : int, optional
        Striping of the file on Lustre.
    """

    type: str
    kind: str
    mount: str
    stripe_count: int | None = None
    stripe_bytes: int | None = None

    def __str__(self) -> str:
        stripes = f", {self.stripe_count} stripes" if self.stripe_count and self.stripe_count > 1 else ""
        stripes = ", 1 stripe" if self.stripe_count == 1 else stripes
        return f"{self.type} ({self.kind}{stripes})"


def file_system_of(path: Path, mounts: Path = MOUNTS) -> FileSystem:
    """Return the file system that a file is on.

    Parameters
    ----------
    path : Path
        An existing path.
    mounts : Path
        The kernel's list of mounts.

    Returns
    -------
    FileSystem
    """
    real = os.path.realpath(path)
    found, found_type = "", "unknown"
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[1])
        is_above = real == place or real.startswith(place.rstrip("/") + "/")
        if is_above and len(place) >= len(found):  # a later mount hides an earlier one at the same place
            found, found_type = place, words[2]
    count, num_bytes = _striping(path) if found_type == "lustre" else (None, None)
    return FileSystem(found_type, _KINDS.get(found_type, "local"), found, count, num_bytes)


def advised_stripes(num_bytes: int) -> int:
    """Return the number of servers over which Lustre should spread a file of this size.

    The site's own advice takes precedence.
    """
    for limit_gb, stripes in ((1, 1), (10, 8), (100, 24)):
        if num_bytes < limit_gb * 1e9:
            return stripes
    return 72


def _striping(path: Path) -> tuple[int | None, int | None]:
    command = shutil.which("lfs")
    if command is None:
        return None, None
    return _ask(command, "--stripe-count", path), _ask(command, "--stripe-size", path)


def _ask(command: str, option: str, path: Path) -> int | None:
    try:
        done = subprocess.run(
            [command, "getstripe", option, str(path)], capture_output=True, text=True, timeout=_LFS_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return int(words[-1]) if done.returncode == 0 and words and words[-1].isdecimal() else None
