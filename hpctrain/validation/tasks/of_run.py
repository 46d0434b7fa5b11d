"""Which tasks the results of a run have. R rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.validation.tasks.anomalies import anomaly_task, score_of
from hpctrain.validation.tasks.clusters import cluster_task
from hpctrain.validation.tasks.labels import label_tasks
from hpctrain.validation.tasks.spectra import spectra_task
from hpctrain.validation.tasks.task import Task

UNUSUAL = "_UNUSUAL"
"""Begin of the names of the columns that say which samples are unusual, and of which that is known."""


def tasks_of(
    card: Mapping[str, Any], columns: Mapping[str, np.ndarray], results: Path | None = None
) -> tuple[Task, ...]:
    """Return what can be judged of the columns of a model.

    Parameters
    ----------
    card : mapping
        The model's card.
    columns : mapping of str to ndarray, shape (R, ...)
    results : Path, optional
        Folder of the results, for what other files beside say; without it nothing is read.
    """
    found = list(label_tasks(card, columns))
    if {"RECON_MSE", "NUM_PIXELS", "STATUS"} <= columns.keys():
        found.append(spectra_task(columns, results))
    if "CLUSTER" in columns and "DISTANCE" in columns:
        usable = np.isfinite(columns["DISTANCE"])
        found.append(cluster_task(columns["CLUSTER"], columns.get("LABEL"), usable, results))
    score = score_of(columns)
    if score is not None and UNUSUAL in columns:
        found.append(anomaly_task(columns[score], columns[UNUSUAL], columns[f"{UNUSUAL}_KNOWN"]))
    return tuple(task for task in found if task.known.any() and (task.metrics or task.details()))
