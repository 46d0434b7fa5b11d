"""Record the origin of a run, its code, packages, host and data, in the run directory; the report reads it.

The record contains the uncommitted changes of the user's code. This module therefore hides credentials in it, and only
the owner may read the file unless the site shares it.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.access import GROUP, access_of
from hpctrain.credentials.hide import hide_secrets, own_command
from hpctrain.profile.files import matching_files
from hpctrain.profile.schema import Profile
from hpctrain.profile.site import load_site
from hpctrain.rundir import write_json

_PACKAGES = ("torch", "numpy", "h5py", "astropy", "safetensors", "submitit", "pydantic", "scikit-learn")
_LONGEST_DIFF = 1_000_000
"""Largest number of characters of a recorded diff; a longer one is cut and ends with a note that says so."""


def collect(profile: Profile, project: Path) -> dict[str, Any]:
    """Return the provenance of a run that is about to be submitted, without heavy imports.

    Parameters
    ----------
    profile : Profile
        With absolute paths.
    project : Path
        Folder from which the user called the command. Its git state is recorded, and that of hpctrain if it runs from a
        checkout.

    Returns
    -------
    dict
        Content of ``provenance.json``.
    """
    return {
        "time": time.time(),
        "command": own_command(),
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "hpctrain": __version__,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "project": {"path": str(project), "git": git_state(project)},
        "code": {"path": (root := str(Path(__file__).parents[2])), "git": git_state(Path(root))},
        "data": [fingerprint(path) for path in data_files(profile)],
    }


def write(path: Path, profile: Profile, project: Path, parent: Mapping[str, Any] | None = None) -> None:
    """Write the provenance of a run; its owner can read it, and the group that the run is shared with.

    Others can only if the site sets ``share_provenance``.

    Parameters
    ----------
    path : Path
        ``provenance.json`` of the run.
    profile, project
        As of :func:`collect`.
    parent : mapping, optional
        The run of which this one is a rerun, and what differs.
    """
    site = load_site(profile.launch.site) if profile.launch.site else None
    is_shared = (site is not None and site.share_provenance) or access_of(path.parent) == GROUP
    facts = collect(profile, project) | ({} if parent is None else {"parent": dict(parent)})
    write_json(path, facts, mode=0o666 if is_shared else 0o600)


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and uncommitted changes of the checkout that contains `folder`; None if there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = hide_secrets(_git(folder, "diff", "HEAD") or "")
    if len(diff) > _LONGEST_DIFF:
        diff = diff[:_LONGEST_DIFF] + f"\n... cut: {len(diff)} characters in all\n"
    untracked = (_git(folder, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(diff.strip()),
        "diff": diff,
        "untracked": untracked[:200],
    }


def data_files(profile: Profile) -> list[Path]:
    """Return the existing local files that match ``data.files``; a simulated file may not exist yet."""
    return [path for name in profile.data.files for path in matching_files(name) if path.is_file()]


def fingerprint(path: Path) -> dict[str, Any]:
    """Return facts that identify a file without reading it: path, size, time of change and stored hashes.

    ``columns`` holds the SHA-256 of each column that the writer of the file (``hpctrain ingest``, ``simulate``, ``data
    repack``) stored in it. They are copied and not computed, because reading 200 GB at every submission would take too
    long. ``hashes`` gives their state: whether the file has them, and whether it has changed since it was written.
    """
    from hpctrain.samples.fingerprint import stored_hashes  # 0.15 s of h5py: not for a dry run

    facts = os.stat(path)
    stored = stored_hashes(path)
    return {
        "path": str(path),
        "bytes": facts.st_size,
        "modified": facts.st_mtime,
        "hashes": stored.state,
        "columns": stored.columns,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # there is no git, or the file system is too slow; a run must not wait for its provenance
    return done.stdout.decode("utf-8", "replace").rstrip("\n") if done.returncode == 0 else None
