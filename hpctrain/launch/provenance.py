"""The origin of a run: code, packages, host, data. Written beside every run, read by the report.

The uncommitted changes of the user's code are in it, so credentials are hidden, and only the owner may read the file
unless the site shares it.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.profile.credentials import hide_secrets
from hpctrain.profile.files import matching_files
from hpctrain.profile.schema import Profile
from hpctrain.profile.site import load_site
from hpctrain.rundir import write_json

_PACKAGES = ("torch", "numpy", "h5py", "astropy", "safetensors", "submitit", "pydantic", "scikit-learn")
_LONGEST_DIFF = 1_000_000
"""Characters; a longer diff is cut and says so."""


def collect(profile: Profile, project: Path) -> dict[str, Any]:
    """Gather the provenance of a run that is about to be submitted, importing nothing heavy.

    Parameters
    ----------
    profile : Profile
        With absolute paths.
    project : Path
        Where the command was called; its git state is recorded, and that of hpctrain where it is a checkout.

    Returns
    -------
    dict
        Ready for ``provenance.json``.
    """
    return {
        "time": time.time(),
        "command": [hide_secrets(argument) for argument in sys.argv],
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


def write(path: Path, profile: Profile, project: Path) -> None:
    """Write the provenance of a run, readable by its owner only unless the site says ``share_provenance``.

    Parameters
    ----------
    path : Path
        ``provenance.json`` of the run.
    profile, project
        As of :func:`collect`.
    """
    site = load_site(profile.launch.site) if profile.launch.site else None
    is_shared = site is not None and site.share_provenance
    write_json(path, collect(profile, project), mode=0o666 if is_shared else 0o600)


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and uncommitted changes of the checkout that `folder` lies in, or None."""
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
    """Return the files that ``data.files`` means now; simulated ones may not exist yet, remote ones are left out."""
    return [path for name in profile.data.files for path in matching_files(name) if path.is_file()]


def fingerprint(path: Path) -> dict[str, Any]:
    """Return what identifies a file without reading it: path, size, time of change, and what it says of itself.

    ``columns`` are the SHA-256 that its writer left in it (``hpctrain ingest``, ``simulate``, ``data repack``): copied,
    not computed, as reading 200 GB at every submit is no option. ``hashes`` says what they are worth: as the file was
    written, recorded in a file whose time of change is another one now, or not there.
    """
    from hpctrain.spectra.fingerprint import stored_hashes  # 0.15 s of h5py: not for a dry run

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
        return None  # no git here, or a file system too slow to ask: provenance is worth less than the run
    return done.stdout.decode("utf-8", "replace").rstrip("\n") if done.returncode == 0 else None
