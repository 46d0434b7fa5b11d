"""Predictions of any model as a file: one row per sample, the columns that the model's ``predict`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hpctrain import __version__
from hpctrain.families.held_out import HeldOut, NoResultsError
from hpctrain.files import NewFile
from hpctrain.profile.lookup import find_family
from hpctrain.samples.loader import padded_requests, read_ahead
from hpctrain.samples.protocols import PADDING_ROW

FORMAT = "hpctrain-predictions"
FORMAT_VERSION = 1


def write_predictions(model: Any, card: Mapping[str, Any], held_out: HeldOut, path: Path, threads: int = 2) -> int:
    """Predict samples and write the columns, the object identifiers and the rows; whole or not at all.

    Parameters
    ----------
    model : torch.nn.Module or RoundsModel
        In evaluation mode.
    card : mapping
        Card of the model.
    held_out : HeldOut
        The samples.
    path : Path
        ``*.h5``.
    threads : int
        Threads that read ahead.

    Returns
    -------
    int
        Number of samples written.

    Raises
    ------
    NoResultsError
        There is no sample.
    """
    parts: dict[str, list[np.ndarray]] = {}
    done, family = 0, find_family(card["family"])
    requests = padded_requests(held_out.rows, held_out.batch_size)
    for batch in read_ahead(held_out.samples, requests, threads, 4):
        kept = batch.row.numpy() != PADDING_ROW
        for name, values in family.predictions(model, card, batch.to(held_out.device)).items():
            parts.setdefault(name, []).append(values[kept])
        done += int(kept.sum())
        held_out.tick(done)
    if not done:
        raise NoResultsError("there is nothing to predict")
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    with NewFile(path, durable=False, replace_folders=True) as new, h5py.File(new.stream, "w") as file:
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            hpctrain_version=__version__,
            family=str(card["family"]),
            model_name=str(card.get("name", "")),
        )
        file["target_id"] = held_out.samples.target_id[held_out.rows]
        file["row"] = held_out.rows
        meanings = family.columns_of(card)
        for name, values in columns.items():
            file[name] = values
            if (column := meanings.get(name)) is not None:
                known = {"unit": column.unit, "description": column.description}
                file[name].attrs.update({key: text for key, text in known.items() if text})
    return done


@torch.no_grad()
def predict(model: Any, batch: Any) -> dict[str, np.ndarray]:
    """Return the columns that a model in evaluation mode predicts for a prepared batch, as arrays (N, ...)."""
    columns = model.predict(batch)
    return {name: value.cpu().numpy() if torch.is_tensor(value) else value for name, value in columns.items()}
