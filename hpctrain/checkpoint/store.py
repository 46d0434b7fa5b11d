"""Checkpoints on disk: a directory with a manifest of checksums, or nothing.

::

    checkpoints/step-00001200/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json

Everything is written to a hidden sibling, each file is fsynced, the manifest last, then the directory; one rename makes
it visible and the parent is fsynced. Nothing is removed before the new one stands. Loading believes only a directory
whose every byte agrees with its manifest, and walks back to the newest that does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpctrain.checkpoint.tensorfile import file_digest, read_tensors, write_tensors
from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, fsync_directory, write_atomic

FORMAT = 1
MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True)
class Rejected:
    """A directory that is there but cannot be believed, and why."""

    path: Path
    reason: str


def checkpoint_path(run: RunDir, step: int) -> Path:
    """Return where the checkpoint of a step stands or would stand."""
    return run.checkpoints / f"step-{step:08d}"


def list_checkpoints(run: RunDir) -> list[tuple[int, Path]]:
    """Return (step, path) of every visible checkpoint, newest first, unverified."""
    found = []
    if run.checkpoints.is_dir():
        for path in run.checkpoints.iterdir():
            match = _NAME.match(path.name)
            if match and path.is_dir():
                found.append((int(match[1]), path))
    return sorted(found, reverse=True)


def verify(path: Path) -> str | None:
    """Return what is wrong with a checkpoint directory, or None when every byte is as it was written."""
    try:
        text = (path / MANIFEST).read_text(encoding="ascii")
        manifest = json.loads(text)
        files = manifest["files"]
        # The manifest vouches for itself too: for its values by a checksum, for its every byte by having one spelling.
        if text != _manifest_text(manifest["format"], manifest["step"], files):
            return f"{MANIFEST} is damaged"
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this version reads {FORMAT}"
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"cannot be read: {error!r}"
    return None


def _manifest_text(version: int, step: int, files: Mapping[str, Any]) -> str:
    """Return the one way to write a manifest, its checksum included."""
    facts = {"format": version, "step": step, "files": files}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return json.dumps({**facts, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def newest_whole(run: RunDir) -> tuple[int | None, list[Rejected]]:
    """Return the newest checkpoint that verifies, and the newer ones that do not.

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


def clear_leftovers(run: RunDir) -> list[Path]:
    """Remove what a killed writer left half written, and return what it was."""
    leftovers = sorted(run.checkpoints.glob(".step-*"))
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return leftovers


def write_checkpoint(
    run: RunDir, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any], attempt: int
) -> int:
    """Write one checkpoint so that it is whole or not there; return its size [byte].

    Parameters
    ----------
    run : RunDir
    step : int
        Completed updates.
    tensors : mapping
        File name without ending (``model``, ``optimizer``, ``ema``) to its named CPU tensors.
    state : mapping
        What else belongs to the state; JSON.
    attempt : int
        The writer's attempt; one that a newer attempt has replaced may not publish.

    Raises
    ------
    CheckpointError
        A newer attempt owns the run directory.
    OSError
        The disk is full or the directory cannot be written; the checkpoints that stand are untouched.
    """
    final = checkpoint_path(run, step)
    temporary = run.checkpoints / f".{final.name}.{attempt:04d}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        files = {
            f"{name}.safetensors": write_tensors(temporary / f"{name}.safetensors", t) for name, t in tensors.items()
        }
        text = json.dumps({"format": FORMAT, "step": step, "attempt": attempt, **state}, indent=1) + "\n"
        write_atomic(temporary / "state.json", text)
        files["state.json"] = {"size": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        write_atomic(temporary / MANIFEST, _manifest_text(FORMAT, step, files))
        fsync_directory(temporary)
        refuse_if_replaced(run, attempt)
        _publish(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return sum(int(facts["size"]) for facts in files.values())


def _publish(temporary: Path, final: Path) -> None:
    if final.exists():
        # The same step was reached again after a walk-back: a whole one has the same bits, a damaged one goes.
        if verify(final) is None:
            shutil.rmtree(temporary)
            return
        damaged = final.with_name(f".{final.name}.damaged.{os.getpid()}")
        os.rename(final, damaged)
        os.rename(temporary, final)
        shutil.rmtree(damaged, ignore_errors=True)
    else:
        os.rename(temporary, final)
    fsync_directory(final.parent)


def refuse_if_replaced(run: RunDir, attempt: int) -> None:
    """Raise CheckpointError when a newer attempt than `attempt` has taken the run directory.

    A node that was cut off from the network lives on, unseen by Slurm, while the job runs again elsewhere.
    """
    newest = max((int(path.stem) for path in run.attempts.glob("[0-9]*.json")), default=attempt)
    if newest > attempt:
        raise CheckpointError(f"{run.path}: attempt {attempt} was replaced by attempt {newest}; this one may not save")


def prune(run: RunDir, keep_last: int, keep_every_steps: int | None, best_step: int | None) -> Iterator[Path]:
    """Remove the checkpoints that retention does not keep, oldest first, and yield each.

    Parameters
    ----------
    run : RunDir
    keep_last : int
        Newest ones to keep.
    keep_every_steps : int or None
        Steps that are a multiple of this stay for good.
    best_step : int or None
        Stays too.
    """
    for step, path in reversed(list_checkpoints(run)[keep_last:]):
        if step == best_step or (keep_every_steps and step % keep_every_steps == 0):
            continue
        # Hidden first: a removal that is cut short must not leave a visible directory without its files.
        hidden = path.with_name(f".{path.name}.removed")
        os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)
        yield path


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read a verified checkpoint.

    Returns
    -------
    tensors : dict
        As given to :func:`write_checkpoint`.
    state : dict
    """
    tensors = {file.stem: read_tensors(file) for file in sorted(path.glob("*.safetensors"))}
    return tensors, json.loads((path / "state.json").read_text())
