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

from hpctrain.checkpoint.tensorfile import read_tensors, write_tensors
from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, file_digest, fsync_directory, write_atomic

FORMAT = 1
MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"^step-(\d{8,})$")
_LEFTOVER = re.compile(r"^\.step-\d+\.(\d+)\.\d+$")
_ASIDE = "rejected-"


@dataclass(frozen=True)
class Rejected:
    """A directory that is there but cannot be believed, and why."""

    path: Path
    reason: str


def checkpoint_path(run: RunDir, step: int) -> Path:
    """Return where the checkpoint of a step stands or would stand."""
    return run.checkpoints / _name(step)


def _name(step: int) -> str:
    return f"step-{step:08d}"


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
        content = (path / MANIFEST).read_bytes()
        manifest = json.loads(content)
        files = manifest["files"]
        # The manifest vouches for itself too: for its values by a checksum, for its every byte by having one spelling.
        if content != _manifest_text(manifest["format"], manifest["step"], files).encode():
            return f"{MANIFEST} is damaged"
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this version reads {FORMAT}"
        if path.name != _name(manifest["step"]):
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


def clear_leftovers(run: RunDir, attempt: int) -> tuple[list[Path], list[Rejected]]:
    """Remove what killed or failed writers, up to those of `attempt`, left half written or half removed.

    Returns
    -------
    cleared : list of Path
    stuck : list of Rejected
        What could not be removed, and why; it holds disk space, nothing else.
    """
    cleared, stuck = [], []
    for path in sorted(run.checkpoints.glob(".step-*")):
        owner = _LEFTOVER.match(path.name)
        if owner and int(owner[1]) > attempt:
            continue  # a newer attempt is writing it: this one was replaced and does not know it yet
        if (reason := _remove(path)) is None:
            cleared.append(path)
        else:
            stuck.append(Rejected(path, reason))
    return cleared, stuck


def _remove(path: Path) -> str | None:
    """Remove a directory; return why it could not be, or None."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return None


def set_aside(rejected: list[Rejected]) -> None:
    """Give checkpoints that cannot be believed another name, so that they count nowhere as the newest ones.

    They stay for whoever wants to look, until :func:`prune` finds that another one stands.
    """
    for item in rejected:
        target = item.path.with_name(f"{_ASIDE}{item.path.name}")
        _remove(target)
        os.rename(item.path, target)


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
    refuse_if_replaced(run, attempt)
    clear_leftovers(run, attempt)  # of a save that failed: it would take the room this one needs
    final = checkpoint_path(run, step)
    temporary = run.checkpoints / f".{final.name}.{attempt:04d}.{os.getpid()}"
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
        _remove(damaged)
    else:
        os.rename(temporary, final)
    fsync_directory(final.parent)


def refuse_if_replaced(run: RunDir, attempt: int) -> None:
    """Raise CheckpointError when a newer attempt than `attempt` has taken the run directory.

    A node that was cut off from the network lives on, unseen by Slurm, while the job runs again elsewhere.
    """
    newest = run.newest_attempt()
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
    unwanted = [
        path
        for step, path in list_checkpoints(run)[keep_last:]
        if step != best_step and not (keep_every_steps and step % keep_every_steps == 0)
    ]
    for path in [*sorted(run.checkpoints.glob(f"{_ASIDE}step-*")), *reversed(unwanted)]:
        # Hidden first: a removal that is cut short must not leave a visible directory without its files.
        hidden = path.with_name(f".{path.name.removeprefix(_ASIDE)}.removed")
        _remove(hidden)
        os.rename(path, hidden)
        shutil.rmtree(hidden)
        yield path


def make_room(run: RunDir, keep_last: int, keep_every_steps: int | None, best_step: int | None) -> list[Path]:
    """Remove on a full disk what retention would remove anyway if only the next checkpoint could be written.

    Without it a disk that is filled by exactly the checkpoints to keep would never take another one. The newest one
    stays and is verified first; where it is the only one to keep nothing is removed.

    Returns
    -------
    list of Path
        What was removed; the arguments are those of :func:`prune`.
    """
    standing = list_checkpoints(run)
    if keep_last < 2 or not standing or verify(standing[0][1]) is not None:
        return []
    return list(prune(run, keep_last - 1, keep_every_steps, best_step))


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
