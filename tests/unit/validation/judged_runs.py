"""The files of a finished run whose predictions a test chooses: profile, data, model, results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.rundir import RunDir

NUM = 60
PROFILE = """
name: made
platform: cpu
launch: {gpus_per_node: 0}
data: {files: [%s], features: [g]}
model:
  family: trees
  labels:
    - {column: class, kind: class, name: spectype}
    - {column: redshift, kind: density, spacing: log1p}
"""
CLASSES = ["GALAXY", "STAR"]


def predictions() -> dict[str, np.ndarray]:
    """Return held-out predictions of a class and a redshift for every second of 120 objects."""
    rng = np.random.default_rng(4)
    true = rng.uniform(0.1, 1.0, NUM)
    code = np.arange(NUM) % 2
    guess = np.where(np.arange(NUM) % 10 == 0, 1 - code, code)
    names = np.array(CLASSES, dtype="S8")
    return {
        "target_id": 1000 + 2 * np.arange(NUM),
        "row": 2 * np.arange(NUM),
        "redshift_TRUE": true,
        "redshift_PRED": true + 0.02 * rng.normal(size=NUM) * (1 + true),
        "spectype_TRUE": names[code],
        "spectype_PRED": names[guess],
        "spectype_PROB": np.where(np.arange(2) == guess[:, None], 0.8, 0.2),
    }


def finished_run(folder: Path, columns: dict[str, np.ndarray] | None = None, more: str = "", **card: Any) -> RunDir:
    """Write a finished run of trees.

    Parameters
    ----------
    folder : Path
        Gets the data file ``data.h5`` and the run ``runs/made/20261126-000000-0000``.
    columns : dict, optional
        Of ``results/predictions.h5``; :func:`predictions` by default.
    more : str
        More lines of the profile.
    **card
        Other entries of the model's card.
    """
    data = folder / "data.h5"
    with h5py.File(data, "w") as file:
        file["target_id"] = 1000 + np.arange(2 * NUM)
        file["g"] = np.linspace(18, 22, 2 * NUM).astype(np.float32)
        file["unusual"] = np.arange(2 * NUM) % 16 == 0
    run = RunDir.create(folder / "runs", "made", "20261126-000000-0000")
    run.profile.write_text(PROFILE % data + more)
    run.model.mkdir()
    run.results.mkdir()
    labels = [
        {"column": "class", "kind": "class", "name": "spectype", "classes": CLASSES},
        {"column": "redshift", "kind": "density", "spacing": "log1p"},
    ]
    section = {"family": "trees", "labels": labels}
    (run.model / "model.json").write_text(json.dumps({"family": "trees", "section": section, "split": {}, **card}))
    (run.model / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    end = {"kind": "event", "event": "finished", "step": 9, "time": 0.0, "sha256": digest}
    run.metrics.write_text(json.dumps(end) + "\n")
    write_results(run, predictions() if columns is None else columns)
    return run


def write_results(run: RunDir, columns: dict[str, np.ndarray], name: str = "predictions.h5") -> None:
    """Write columns into a file of ``results/``."""
    with h5py.File(run.results / name, "w") as file:
        for column, values in columns.items():
            file[column] = values
