"""Which checkpoints are whole: the layout on disk, its manifest of checksums, and what a reader accepts.

::

    checkpoints/step-00001200/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json

A reader accepts a directory only if every byte agrees with its manifest, and otherwise uses the newest one that does.
This module needs no torch, so a login node and a mirror can verify checkpoints too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, file_digest

FORMAT = 1
MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"^step-(\d{8,})$")
_LEFTOVER = re.compile(r"^\.step-\d+\.(\d+)\.\d+$")
REJECTED = "rejected-"
"""Prefix of the name to which a damaged checkpoint is renamed."""


@dataclass(frozen=True)
class Rejected:
    """A directory that is no whole checkpoint, and the reason."""

    path: Path
    reason: str


def checkpoint_path(run: RunDir, step: int) -> Path:
    """Return the directory of the checkpoint of a step, whether it exists or not."""
    return run.checkpoints / checkpoint_name(step)


def checkpoint_name(step: int) -> str:
    """Return the name of the directory of the checkpoint of a step."""
    return f"step-{step:08d}"


def list_checkpoints(run: RunDir) -> list[tuple[int, Path]]:
    """Return (step, path) of every visible checkpoint, newest first, without verifying them."""
    found = []
    if run.checkpoints.is_dir():
        for path in run.checkpoints.iterdir():
            match = _NAME.match(path.name)
            if match and path.is_dir():
                found.append((int(match[1]), path))
    return sorted(found, reverse=True)


def verify(path: Path) -> str | None:
    """Return the fault of a checkpoint directory; None if every byte is as it was written."""
    try:
        content = (path / MANIFEST).read_bytes()
        manifest = json.loads(content)
        files = manifest["files"]
        # The manifest is checked too: a checksum covers its values, and only one spelling of them is accepted.
        if content != manifest_text(manifest["format"], manifest["step"], files).encode():
            return f"{MANIFEST} is damaged"
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this version reads {FORMAT}"
        if path.name != checkpoint_name(manifest["step"]):
            return f"holds step {manifest['step']}; somebody has renamed it"
        present = {entry.name for entry in path.iterdir()} - {MANIFEST}
        if missing := sorted(set(files) - present):
            return f"{', '.join(missing)} is missing"
        if extra := sorted(present - set(files)):
            return f"holds {', '.join(extra)}, which its manifest does not list"
        for name, facts in files.items():
            size = (path / name).stat().st_size
            if size != facts["size"]:
                return f"{name} has {size} bytes, its manifest says {facts['size']}"
            if file_digest(path / name) != facts["sha256"]:
                return f"{name} does not have the SHA-256 of its manifest"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"cannot be read: {error!r}"
    return None


def manifest_text(version: int, step: int, files: Mapping[str, Any]) -> str:
    """Return the only accepted text of a manifest, its checksum included."""
    facts = {"format": version, "step": step, "files": files}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return json.dumps({**facts, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def newest_whole(run: RunDir) -> tuple[int | None, list[Rejected]]:
    """Return the newest whole checkpoint, and the newer ones that are not whole.

    Returns
    -------
    step : int or None
        None where there is no whole checkpoint.
    rejected : list of Rejected
    """
    rejected = []
    for step, path in list_checkpoints(run):
        reason = verify(path)
        if reason is None:
            return step, rejected
        rejected.append(Rejected(path, reason))
    return None, rejected


def clear_leftovers(run: RunDir, attempt: int) -> tuple[list[Path], list[Rejected]]:
    """Remove unfinished directories that killed or failed writers of this or older attempts left.

    Returns
    -------
    cleared : list of Path
    stuck : list of Rejected
        Directories that could not be removed, and why. They take disk space and do no other harm.
    """
    cleared, stuck = [], []
    for path in sorted(run.checkpoints.glob(".step-*")):
        owner = _LEFTOVER.match(path.name)
        if owner and int(owner[1]) > attempt:
            continue  # a newer attempt is writing it; this attempt was replaced and has not noticed yet
        if (reason := remove_directory(path)) is None:
            cleared.append(path)
        else:
            stuck.append(Rejected(path, reason))
    return cleared, stuck


def remove_directory(path: Path) -> str | None:
    """Remove a directory; return why it could not be removed, or None."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return None


def set_aside(rejected: list[Rejected]) -> None:
    """Rename damaged checkpoints, so that they no longer count as the newest ones.

    You can inspect them until the next checkpoint is saved; then retention removes them.
    """
    for item in rejected:
        target = item.path.with_name(f"{REJECTED}{item.path.name}")
        if target.is_symlink() or target.is_file():
            target.unlink()
        remove_directory(target)
        os.rename(item.path, target)


def refuse_if_replaced(run: RunDir, attempt: int) -> None:
    """Raise CheckpointError when a newer attempt than `attempt` has taken the run directory.

    The processes of a node that was cut off from the network may still run when Slurm starts the job again elsewhere.
    """
    newest = run.newest_attempt()
    if newest > attempt:
        raise CheckpointError(f"{run.path}: attempt {attempt} was replaced by attempt {newest}; this one may not save")
