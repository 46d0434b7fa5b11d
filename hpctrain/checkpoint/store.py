"""Write and read checkpoints: each is a directory with a manifest of checksums, or absent.

A writer fills a hidden sibling directory: it fsyncs each file, writes the manifest last, then fsyncs the directory. One
rename makes the checkpoint visible, and the writer fsyncs the parent. The newest whole checkpoint is never removed
before a newer one is whole. :mod:`hpctrain.checkpoint.whole` has the layout and says what is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hpctrain.checkpoint.tensorfile import read_tensors, write_tensors
from hpctrain.checkpoint.whole import (
    FORMAT,
    MANIFEST,
    checkpoint_path,
    clear_leftovers,
    manifest_text,
    refuse_if_replaced,
    remove_directory,
    verify,
)
from hpctrain.rundir import RunDir, fsync_directory, write_atomic


def write_checkpoint(
    run: RunDir, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any], attempt: int
) -> int:
    """Write one checkpoint, whole or not at all; return its size [byte].

    Parameters
    ----------
    run : RunDir
    step : int
        Number of completed steps.
    tensors : mapping
        File name without ending (``model``, ``optimizer``, ``ema``) to its named CPU tensors.
    state : mapping
        The rest of the state, as JSON values.
    attempt : int
        Number of the writer's attempt. An attempt that a newer one has replaced may not save.

    Raises
    ------
    CheckpointError
        A newer attempt owns the run directory.
    OSError
        The disk is full or the directory cannot be written. The older checkpoints are untouched.
    """
    refuse_if_replaced(run, attempt)
    clear_leftovers(run, attempt)  # leftovers of a failed save would take the room that this one needs
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
        write_atomic(temporary / MANIFEST, manifest_text(FORMAT, step, files))
        fsync_directory(temporary)
        refuse_if_replaced(run, attempt)
        _publish(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return sum(int(facts["size"]) for facts in files.values())


def _publish(temporary: Path, final: Path) -> None:
    if final.exists():
        # The run reached this step again after going back. A whole checkpoint has the same bits and stays.
        if verify(final) is None:
            shutil.rmtree(temporary)
            return
        damaged = final.with_name(f".{final.name}.damaged.{os.getpid()}")
        os.rename(final, damaged)
        os.rename(temporary, final)
        remove_directory(damaged)
    else:
        os.rename(temporary, final)
    fsync_directory(final.parent)


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read a verified checkpoint.

    Returns
    -------
    tensors : dict
        Tensors as they were passed to :func:`write_checkpoint`.
    state : dict
    """
    tensors = {file.stem: read_tensors(file) for file in sorted(path.glob("*.safetensors"))}
    return tensors, json.loads((path / "state.json").read_text())
