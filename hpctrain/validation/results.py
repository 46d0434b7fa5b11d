"""Read the results of a finished run, and refuse those that do not belong to its model. R rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.result_files import read_datasets
from hpctrain.files import open_regular
from hpctrain.rundir import RunDir, file_digest, read_json

PREDICTIONS, LATENTS = "predictions.h5", "latents.h5"
CARD, WEIGHTS = "model.json", "model.safetensors"
NO_ROW = -1
"""Row of a sample of a run of an older version, whose results do not name rows."""


def read_card(run: RunDir) -> Mapping[str, Any]:
    """Return ``model/model.json``.

    Raises
    ------
    DataError
        There is none yet, or it is damaged.
    """
    card = read_json(run.model / CARD)
    if not isinstance(card, dict) or not isinstance(card.get("section"), dict) or "family" not in card:
        raise DataError(f"{run.path}: has no model yet; {_wait(run)}")
    return card


def digest_of(run: RunDir) -> str:
    """Return the SHA-256 of the weights, which must be those that the run has finished with.

    Raises
    ------
    DataError
        The weights are missing, or were replaced after the results were written.
    """
    path = run.model / WEIGHTS
    if not path.is_file():
        raise DataError(f"{path}: is missing, so the results have no model; train again")
    found, finished = file_digest(path), None
    for record in run.read_metrics("event"):
        if record.get("event") == "finished":
            finished = record.get("sha256")
    if isinstance(finished, str) and finished != found:
        raise DataError(
            f"{path}: was changed after the run had finished (SHA-256 {found[:12]}, and {finished[:12]} at the end), "
            "so the results in results/ are those of another model; put the old file back, or train again"
        )
    return found


def read_results(run: RunDir) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the file with what the model says about the held-out samples, and its columns by object and row.

    Returns
    -------
    path : Path
    columns : dict of ndarray, shape (R, ...)
        With ``target_id`` and ``row``, int64; `NO_ROW` where an older version has written the file.

    Raises
    ------
    DataError
        The run is not finished, has no held-out samples, or the file is damaged.
    """
    path = _path(run)
    columns = _read_table(path)
    if "target_id" not in columns:
        raise DataError(f"{path}: lacks target_id; the file is damaged, or another program wrote it")
    columns.setdefault("row", np.full(len(columns["target_id"]), NO_ROW, dtype=np.int64))
    order = np.lexsort((columns["row"], columns["target_id"]))
    return path, {name: values[order] for name, values in columns.items()}


def _path(run: RunDir) -> Path:
    for name in (PREDICTIONS, LATENTS):
        if (run.results / name).is_file():
            return run.results / name
    if not (run.model / WEIGHTS).is_file():
        raise DataError(f"{run.path}: is not finished; {_wait(run)}")
    raise DataError(
        f"{run.path}: has no results/{PREDICTIONS} and no results/{LATENTS}: it held out no samples, or none of them "
        "could be used. Hold some out (data.split.validation) and train again"
    )


def _wait(run: RunDir) -> str:
    return f"'hpctrain status {run.path}' shows how far it is; validate it when it has finished"


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a table, all of the same length."""
    import h5py

    try:
        with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
            found = read_datasets(file, list(file))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it is damaged or was cut off while it was copied"
        ) from error
    found = {name: values for name, values in found.items() if values.ndim}
    lengths = {len(values) for values in found.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise DataError(f"{path}: is damaged: it has no rows, or its columns have different lengths")
    return found
