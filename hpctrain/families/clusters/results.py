"""``results/clusters.npz``: what the report shows of the clusters. N held-out objects, F inputs, K clusters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from hpctrain.families.clusters.agreement import agreement_intervals
from hpctrain.families.clusters.columns import LABEL
from hpctrain.families.clusters.stability import counted
from hpctrain.families.labels.columns import codes_of
from hpctrain.families.predictions_panel import FILE as PREDICTIONS
from hpctrain.kinds.catalogue.facts import INPUTS
from hpctrain.rundir import write_arrays

if TYPE_CHECKING:
    from hpctrain.families.clusters.model import Clusters
    from hpctrain.families.held_out import HeldOut

FILE = "clusters.npz"
NUM_OUTLIERS = 20
MOST_DRAWN = 3000
"""Largest number of held-out objects in the picture."""


def write_clusters(model: Clusters, held_out: HeldOut, folder: Path) -> None:
    """Write the candidates, the clusters of the chosen one, and the held-out objects that the report shows.

    Parameters
    ----------
    model : Clusters
    held_out : HeldOut
    folder : Path
        ``results/``, which holds the predictions of these objects.
    """
    best, section = model.best, model.section
    assert best is not None
    with h5py.File(folder / PREDICTIONS) as file:
        columns = {name: file[name][...] for name in ("CLUSTER", "OUTLIER", "DISTANCE", "target_id")}
        known = file[LABEL].asstr()[...] if LABEL in file else None
    number = best.partition.num_clusters
    arrays: dict[str, Any] = {
        "names": np.array(model.names, dtype=str),
        "method": np.array(section.method),
        "chooses_by": np.array(section.chooses_by),
        "num_resamples": np.array(section.resamples),
        "candidates": np.array(section.candidates),
        "trials": model.trials.table,
        "chosen": np.array(model.trials.chosen),
        "sizes": best.sizes,
        "medoid_id": best.medoid_id,
        "medoid_inputs": best.medoid_inputs,
        "stability": best.stability,
    }
    arrays |= _drawn(model, held_out, columns) | _outliers(held_out, columns)
    if known is not None and section.classes:
        usable = np.isfinite(columns["DISTANCE"])
        codes = codes_of(known.astype(str), section.classes)
        has = (known != "") & usable
        table = counted(columns["CLUSTER"][has], codes[has], number, len(section.classes))[:, :-1]
        scores = agreement_intervals(table)
        arrays |= {"classes": np.array(section.classes, dtype=str), "table": table}
        arrays |= {name: np.array(values) for name, values in scores.items()}
    write_arrays(folder / FILE, arrays)


def _drawn(model: Clusters, held_out: HeldOut, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return places and clusters of held-out objects, evenly spread, for the picture."""
    assert model.space is not None
    chosen = np.linspace(0, len(held_out.rows) - 1, min(len(held_out.rows), MOST_DRAWN)).astype(np.int64)
    batch = held_out.samples.read(held_out.rows[chosen])
    with torch.no_grad():
        places = model.space.seen(batch[INPUTS]).numpy()
    return {"seen": places.astype(np.float32), "seen_cluster": columns["CLUSTER"][chosen]}


def _outliers(held_out: HeldOut, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the held-out objects that are farthest from all clusters, the farthest one first."""
    oddity = np.nan_to_num(columns["OUTLIER"].astype(np.float64), nan=-1.0)
    order = np.lexsort((-np.nan_to_num(columns["DISTANCE"]), -oddity))[:NUM_OUTLIERS]
    order = order[oddity[order] >= 0]
    batch = held_out.samples.read(held_out.rows[order])
    names = {"target_id": "outlier_id", "CLUSTER": "outlier_cluster", "OUTLIER": "outlier_rank"}
    found = {new: columns[old][order] for old, new in names.items()}
    return {**found, "outlier_distance": columns["DISTANCE"][order], "outlier_inputs": batch[INPUTS].numpy()}
