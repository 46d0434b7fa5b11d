"""The frozen test set of a registered model: files whose SHA-256 are kept, so that all versions meet the same ones."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.files import publish_once
from hpctrain.registry.folder import ModelFolder
from hpctrain.rundir import file_digest, read_json
from hpctrain.trail.chain import record
from hpctrain.trail.who import who

FORMAT = "hpctrain-frozen"


def file_of(model: ModelFolder) -> Path:
    """Return the file of a registry that says which files are the frozen test set of a model."""
    return model.path / "frozen.json"


def require_frozen(model: ModelFolder, paths: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each file of the frozen test set; the first call writes them down.

    Parameters
    ----------
    model : ModelFolder
    paths : sequence of str

    Raises
    ------
    DataError
        A file has changed, or they are others than those of the first call.
    """
    digests = {str(path): file_digest(Path(path)) for path in paths}
    if not file_of(model).exists():
        model.registry.make(model.path)
        facts = {"format": FORMAT, "version": 1, "files": digests, "who": who(), "when": time.time()}
        record(model.registry.path, "freeze", model.name, files=digests)
        publish_once(file_of(model), (json.dumps(facts, indent=1) + "\n").encode(), model.registry.file_mode)
    kept = read_json(file_of(model), {})
    known = kept.get("files") if isinstance(kept, dict) else None
    if not isinstance(known, Mapping):
        raise DataError(f"{file_of(model)}: is damaged; put it back from a backup")
    if sorted(digests.values()) != sorted(map(str, known.values())):
        raise DataError(_refusal(model, digests, known))
    return digests


def _refusal(model: ModelFolder, digests: Mapping[str, str], known: Mapping[str, str]) -> str:
    lines = [f"{file_of(model)}: the frozen test set of {model.name} is no longer what it was:"]
    lines += [f"  {path}: SHA-256 {sha[:12]} is new" for path, sha in digests.items() if sha not in known.values()]
    lines += [f"  {path}: SHA-256 {sha[:12]} is gone" for path, sha in known.items() if sha not in digests.values()]
    return "\n".join(
        [*lines, "put the files back; to begin with others, remove frozen.json: old results then say less"]
    )


def refuse_trained(target_id: np.ndarray, trained: Mapping[str, np.ndarray]) -> None:
    """Refuse a frozen test set that holds an object on which a version was trained.

    Parameters
    ----------
    target_id : ndarray, shape (K,), int64
    trained : mapping of str to ndarray, shape (n,), int64
        Objects by the name of the version.

    Raises
    ------
    DataError
        The message names the versions, how many objects, and one of them.
    """
    shared = {name: np.intersect1d(target_id, ids) for name, ids in trained.items()}
    if lines := [f"  {name}: {len(ids):,} objects, such as {ids[0]}" for name, ids in shared.items() if len(ids)]:
        message = "the frozen test set has objects on which versions were trained, so it cannot judge them:"
        way_out = "train with the same data.split as before, or take other files"
        raise DataError("\n".join([message, *lines, way_out]))
