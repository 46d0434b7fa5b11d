"""Find the files that an entry of ``data.files`` names: one rule for check, loader, staging and provenance."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from hpctrain.profile.remote import is_remote


def matching_files(name: str, base: Path | None = None) -> list[Path]:
    """Return the files that one entry of ``data.files`` names now.

    Parameters
    ----------
    name : str
        A path, or a glob pattern with ``*``, ``?``, ``[...]`` and ``**``; ``~`` is the home directory. An existing
        path is used literally, even with brackets in it.
    base : Path, optional
        Folder to which a relative name is relative; the current directory by default.

    Returns
    -------
    list of Path
        Sorted. Empty if nothing matches, if a parent folder may not be entered, or for a remote file.
    """
    if is_remote(name):
        return []
    path = os.path.expanduser(name)
    whole = path if base is None else os.path.join(base, path)
    if os.path.exists(whole):
        return [Path(whole)]
    pattern = path if base is None else os.path.join(glob.escape(str(base)), path)
    return sorted(Path(match) for match in glob.glob(pattern, recursive=True))


def is_pattern(name: str) -> bool:
    """Return whether an entry of ``data.files`` has wildcards; the name of an existing file is never a pattern."""
    return glob.has_magic(name) and not os.path.exists(os.path.expanduser(name))
