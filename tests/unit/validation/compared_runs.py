"""Run directories of finished models, as a training leaves them, with predictions that a test chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.profile.sections.data import SplitSection
from hpctrain.rundir import RunDir
from hpctrain.samples.split import VALIDATION, assign_split

PROFILE = """\
name: {name}
platform: cpu
launch: {{gpus_per_node: 0}}
data:
  files: [{data}]
  features: [u]
  split: {split}
model: {model}
"""


def make_run(
    folder: Path,
    name: str,
    *,
    scatter: float = 0.02,
    seed: int = 1,
    num: int = 2000,
    label: str = "Z",
    split: dict[str, Any] | None = None,
    rows: int = 1,
    shift: float = 0.0,
    min_leaf: int = 5,
) -> RunDir:
    """Write a finished run that predicts a redshift and a class of simulated objects.

    All runs of a folder have the same data. Errors of two runs have a common part, which belongs to the objects.

    Parameters
    ----------
    folder : Path
    name : str
    scatter : float
        Of the residuals, and of what a class is decided by.
    seed : int
        Of the errors of this run.
    num : int
        Number of objects, of which the split holds out a share.
    label : str
        Name of the redshift.
    split : dict, optional
        Keys of ``data.split``.
    rows : int
        Rows of each object.
    shift : float
        Added to the true redshifts.
    min_leaf : int
        A key of the model.
    """
    data = folder / "objects.h5"
    target_id = np.repeat(np.arange(1000, 1000 + num), rows)
    rng = np.random.default_rng(0)
    true, common = rng.uniform(0.05, 1.0, num)[target_id - 1000], rng.normal(size=num)[target_id - 1000]
    if not data.exists():
        with h5py.File(data, "w") as file:
            file.update({"target_id": target_id, "u": common, "plate": target_id % 40})
            file.update({"ra": (target_id * 7.3) % 360, "dec": (target_id * 3.1) % 120 - 60})
    section = SplitSection.model_validate({"validation": 0.2, **(split or {})})
    row = np.flatnonzero(assign_split(target_id, section) == VALIDATION)
    errors = np.random.default_rng([seed, 3]).normal(size=len(target_id))
    residual = (scatter * (common + errors) / np.sqrt(2))[row]
    names = np.array(["GALAXY", "STAR"], dtype="S6")
    is_star = true[row] > 0.5
    guess = (true[row] + 5 * residual > 0.5).astype(int)
    columns = {
        f"{label}_TRUE": true[row] + shift,
        f"{label}_PRED": true[row] + residual * (1 + true[row]),
        "kind_TRUE": names[is_star.astype(int)],
        "kind_PRED": names[guess],
    }
    labels = [
        {"column": "zs", "name": label, "kind": "density", "spacing": "log1p"},
        {"column": "class", "name": "kind", "kind": "class", "classes": ["GALAXY", "STAR"]},
    ]
    run = RunDir.create(folder / "runs", name)
    _write(run, {"target_id": target_id[row], "row": row, **columns}, labels, section, data, min_leaf)
    return run


def _write(run: RunDir, columns: dict[str, Any], labels: list[Any], split: Any, data: Path, min_leaf: int) -> None:
    run.results.mkdir()
    run.model.mkdir()
    with h5py.File(run.results / "predictions.h5", "w") as file:
        file.update(columns)
    model = {"family": "trees", "min_leaf": min_leaf, "labels": labels}
    card = {"family": "trees", "section": model, "split": split.model_dump(mode="json"), "step": 3}
    (run.model / "model.json").write_text(json.dumps(card))
    (run.model / "model.safetensors").write_bytes(run.name.encode())
    told = json.dumps(split.model_dump(mode="json"))
    text = PROFILE.format(name=run.name, data=data, split=told, model=json.dumps(model))
    run.profile.write_text(text)
    recorded = [{"path": str(data), "bytes": data.stat().st_size, "columns": {}}]
    run.provenance.write_text(json.dumps({"hpctrain": "0.1.0", "data": recorded, "packages": {"numpy": "2.1"}}))
    records = [
        {"kind": kind, "step": step, "time": 1.0 + step, "attempt": 1, "loss": 2.0 / step}
        for step in (1, 2, 3)
        for kind in ("train", "eval")
    ]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
