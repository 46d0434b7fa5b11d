"""What a version holds of a run, and its copy: each file is hashed while it is copied."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from hpctrain.errors import CheckpointError
from hpctrain.files import open_regular
from hpctrain.registry.version import CARD, PROVENANCE, VALIDATION, WEIGHTS, files_below
from hpctrain.rundir import RunDir

NEEDED = (WEIGHTS, CARD)
OPTIONAL = ("profile.yaml", PROVENANCE, VALIDATION)
_BUNDLE = "bundle.json"
_REJECTED = ".rejected"
_BLOCK = 1 << 22


def contents_of(run: RunDir) -> dict[str, Path]:
    """Return the files of a run that belong into a version, by their relative path.

    They are the folder of the model, the profile, the provenance, the validation, and every bundle below ``export/``
    that has passed its gates.

    Raises
    ------
    CheckpointError
        The run has no finished model.
    """
    missing = [name for name in NEEDED if not (run.path / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{run.path}: has no finished model ({', '.join(missing)} is missing); look at it with 'hpctrain status "
            f"{run.path}', and add it when it is finished"
        )
    found = {name: run.path / name for name in OPTIONAL if (run.path / name).is_file()}
    kept = [name for name in sorted(files_below(run.model)) if not Path(name).name.startswith(".")]
    found.update({f"model/{name}": run.model / name for name in kept})
    for manifest in sorted((run.path / "export").glob(f"*/{_BUNDLE}")):
        folder = manifest.parent
        if not folder.name.endswith(_REJECTED) and not folder.name.startswith("."):
            found.update({f"export/{folder.name}/{name}": folder / name for name in sorted(files_below(folder))})
    return found


def copy_file(source: Path, target: Path, mode: int) -> dict[str, Any]:
    """Copy a file to a new one that is on the disk at the end, and return its entry of the manifest.

    Parameters
    ----------
    source, target : Path
    mode : int
        Permissions of the copy. Of a file that only its owner may read, the copy is for its owner only, too.

    Returns
    -------
    dict
        ``size`` [byte], ``sha256``, and ``private`` if only its owner may read it.

    Raises
    ------
    CheckpointError
        The file cannot be read, or it changed while it was copied.
    OSError
        The disk is full, or the copy cannot be written.
    """
    try:
        descriptor = open_regular(source)
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read: {error.strerror}; ask its owner to add the run") from error
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        is_private = _is_private(source, before.st_mode, mode)
        with open(target, "xb") as copy:
            while block := stream.read(_BLOCK):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fchmod(copy.fileno(), mode & 0o400 if is_private else mode)
            os.fsync(copy.fileno())
        after = os.stat(source)
    if _state(before) != _state(after):
        raise CheckpointError(
            f"{source}: changed while it was copied; is the run still at work? Add it when it is over"
        )
    facts: dict[str, Any] = {"size": before.st_size, "sha256": digest.hexdigest()}
    return {**facts, "private": True} if is_private and mode & 0o044 else facts


def _is_private(source: Path, found: int, mode: int) -> bool:
    """Return whether nobody but its owner may read a copy.

    The group of a run may read its ``provenance.json``; where everybody may read the registry, the copy stays closed.
    """
    if not found & (stat.S_IRGRP | stat.S_IROTH):
        return True
    return source.name == PROVENANCE and bool(mode & ~found & stat.S_IROTH)


def _state(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
