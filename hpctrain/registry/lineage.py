"""From raw file to version: what a version was trained on, written when it is added. N samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import HpctrainError
from hpctrain.launch.provenance import data_files, fingerprint
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, file_digest, read_json

SOURCE_FILE, SOURCE_FILES = "source_file", "provenance/source_files"
"""Datasets of ingested files: for each row a number, and the names of the raw files that the numbers mean."""
_WEIGHTS = ("", "model.safetensors", "model/model.safetensors")


def lineage_of(run: RunDir) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return where the samples of a run come from.

    Parameters
    ----------
    run : RunDir

    Returns
    -------
    facts : dict
        ``files`` (path, size, time and hashes of the data files, when the run was submitted if they were there),
        ``sources`` (names of the raw files), ``started_from`` (path and SHA-256 of the weights that the training began
        with, or None), and ``notes``: what is not known, and why.
    rows : dict of ndarray, shape (N,)
        ``target_id`` int64; ``side`` uint8: 0 training, 1 validation, 2 test; ``source`` int32: row of ``sources``, or
        -1. Empty if the data files are gone.
    """
    recorded = read_json(run.provenance, {})
    files = recorded.get("data") if isinstance(recorded, dict) else None
    facts: dict[str, Any] = {"files": list(files or []), "sources": [], "started_from": None, "notes": []}
    try:
        profile = load_profile(run.profile)
        facts["started_from"] = _start(profile)
        # Files that the job made itself, such as simulated ones, were not there when it was submitted.
        known = {entry.get("path") for entry in facts["files"] if isinstance(entry, dict)}
        facts["files"] += [fingerprint(path) for path in data_files(profile) if str(path) not in known]
        rows = _rows(profile, facts)
    except (HpctrainError, OSError) as error:
        facts["notes"].append(f"the objects are not known: {str(error).splitlines()[0]}")
        rows = {}
    return facts, rows


def _start(profile: Profile) -> dict[str, str] | None:
    if profile.train.init_from is None:
        return None
    start = Path(profile.train.init_from)
    found = next((start / name for name in _WEIGHTS if (start / name).is_file()), None)
    return {"path": str(start), "sha256": "" if found is None else file_digest(found)}


def _rows(profile: Profile, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    from hpctrain.profile.lookup import find_family, find_kind
    from hpctrain.samples.find import find_files
    from hpctrain.samples.replay import replayed
    from hpctrain.samples.split import TRAIN, assign_split

    samples = find_kind(find_family(profile.model.family).kind).open(profile.data)
    try:
        target_id = np.asarray(samples.target_id)
        side = assign_split(target_id, profile.data.split, samples.column)
    finally:
        samples.close()
    parts = [_sources(path, facts["sources"]) for path in find_files(profile.data.files, Path.cwd())]
    known = [part for part in parts if part is not None]
    source = np.concatenate(known) if known and len(known) == len(parts) else np.empty(0, np.int32)
    if len(source) != len(target_id):
        facts["notes"].append("the raw file of each object is not known: the data files do not say it")
        source = np.full(len(target_id), -1, np.int32)
    trained = np.flatnonzero(side == TRAIN)
    used = np.ones(len(target_id), dtype=bool)
    used[trained] = False
    used[replayed(target_id, trained, profile.data)] = True
    return {"target_id": target_id[used], "side": side[used], "source": source[used]}


def _sources(path: Path, names: list[str]) -> np.ndarray | None:
    """Return the raw file of each row of a data file, as a row of `names`, to which its own are added."""
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r", locking=False) as file:
        if SOURCE_FILE not in file or SOURCE_FILES not in file:
            return None
        own = [name.decode() if isinstance(name, bytes) else str(name) for name in file[SOURCE_FILES][...]]
        found = file[SOURCE_FILE][...].astype(np.int64)
    first = len(names)
    names.extend(own)
    return np.where((found >= 0) & (found < len(own)), found + first, -1).astype(np.int32)


def write_lineage(folder: Path, facts: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Write ``lineage.json``, and ``lineage.npz`` if the objects are known, into a folder."""
    (folder / "lineage.json").write_text(json.dumps(facts, indent=1, sort_keys=True, default=str) + "\n")
    if rows:
        np.savez_compressed(folder / "lineage.npz", **rows)
