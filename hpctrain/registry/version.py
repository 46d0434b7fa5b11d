"""One version of a model: its manifest, and whether every byte is as it was added."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.errors import CheckpointError, Problem, ProfileError
from hpctrain.registry.folder import ModelFolder
from hpctrain.registry.sealed import read_sealed
from hpctrain.rundir import file_digest

FORMAT = "hpctrain-version"
FORMAT_VERSION = 1
MANIFEST = "MANIFEST.json"
WEIGHTS = "model/model.safetensors"
CARD = "model/model.json"
VALIDATION = "results/validation.json"
PROVENANCE = "provenance.json"
LINEAGE = ("lineage.json", "lineage.npz")


@dataclass(frozen=True)
class Version:
    """A version that was added.

    Parameters
    ----------
    model : ModelFolder
    number : int
    facts : mapping
        Its manifest: ``token``, ``added`` (who and when), ``run``, ``family``, ``note``, ``content`` and ``files``.
    """

    model: ModelFolder
    number: int
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.model.name}:{self.number}"

    @property
    def path(self) -> Path:
        """Its folder, which is laid out like a run directory."""
        return self.model.version(self.number)

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """``size`` [byte] and ``sha256`` of each file by its path in the folder."""
        return self.facts["files"]

    @property
    def size(self) -> int:
        """Sum of the sizes of its files [byte]."""
        return sum(int(facts["size"]) for facts in self.files.values())


@dataclass
class Verified:
    """What the verification of a version has found.

    Parameters
    ----------
    faults : list of str
        One per file that is missing, damaged or too many.
    unread : list of str
        Files that only the one who added the version may read.
    """

    faults: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def read_version(model: ModelFolder, number: int) -> Version:
    """Return a version, without looking at its files.

    Raises
    ------
    ProfileError
        There is no such version.
    CheckpointError
        Its manifest is missing or damaged.
    """
    path = model.version(number)
    if not path.is_dir():
        numbers = model.numbers()
        there = f"there is {_some(numbers)}" if numbers else "it has no versions"
        raise ProfileError("command line", [Problem(f"{model.name}:{number}", f"no such version; {there}")])
    try:
        facts = read_sealed(path / MANIFEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path / MANIFEST}: {reason}; {_WAY_OUT}") from error
    version = facts.get("version")
    if facts.get("format") != FORMAT or not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(f"{path / MANIFEST}: version {version!r} of the format is not known; update hpctrain")
    if facts.get("name") != model.name or facts.get("number") != number:
        raise CheckpointError(
            f"{path}: is {facts.get('name')}:{facts.get('number')} according to its manifest; somebody has renamed it"
        )
    return Version(model, number, facts)


def _some(numbers: list[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


_WAY_OUT = "put the version back from a backup, or add the run again and promote the new version"


def verify_version(version: Version) -> Verified:
    """Read every file of a version, and compare it with the manifest."""
    found = Verified()
    present = files_below(version.path) - {MANIFEST}
    for name in sorted(present - set(version.files)):
        found.faults.append(f"{name}: is not in the manifest; somebody has put it there")
    for name, facts in version.files.items():
        if fault := _fault_of(version.path / name, facts, found.unread):
            found.faults.append(f"{name}: {fault}")
    return found


def _fault_of(path: Path, facts: Mapping[str, Any], unread: list[str]) -> str | None:
    try:
        entry = os.lstat(path)
        if not stat.S_ISREG(entry.st_mode):
            return "is not a regular file"
        if entry.st_size != facts["size"]:
            return f"has {entry.st_size} bytes, and had {facts['size']} when it was added"
        if file_digest(path) != facts["sha256"]:
            return "does not have the SHA-256 that it had when it was added"
    except FileNotFoundError:
        return "is missing"
    except PermissionError:
        if facts.get("private"):
            unread.append(path.name)
            return None
        return "may not be read by you"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def require_whole(version: Version) -> Version:
    """Return a version if every file of it is as it was added.

    Raises
    ------
    CheckpointError
        Files are damaged or missing; the message lists them all.
    """
    if faults := verify_version(version).faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise CheckpointError(f"{version.path}: {version} is not as it was added:\n{lines}\n{_WAY_OUT}")
    return version


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files and links below a folder, relative to it."""
    return {
        os.path.relpath(os.path.join(place, name), folder)
        for place, folders, names in os.walk(folder)
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]
    }
