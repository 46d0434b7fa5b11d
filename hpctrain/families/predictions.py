"""Predictions of any model as a file: one row per sample, the columns that the model's ``predict`` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from hpctrain import __version__
from hpctrain.errors import DataError
from hpctrain.families.held_out import HeldOut, NoResultsError
from hpctrain.files import NewFile
from hpctrain.profile.load import load_profile
from hpctrain.profile.lookup import data_section_of, find_family, find_kind
from hpctrain.samples.loader import padded_requests, read_ahead
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Samples

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
    columns |= family.add_columns(card, columns, column_reader(held_out.samples, held_out.rows))
    write_columns(path, card, columns, held_out)
    return done


def column_reader(samples: Samples, rows: np.ndarray) -> Callable[[str], np.ndarray]:
    """Return a function that returns a column of some samples (n,), or their ``target_id``, by its name."""

    def read(name: str) -> np.ndarray:
        return samples.target_id[rows] if name == "target_id" else np.asarray(samples.column(name))[rows]

    return read


def write_columns(path: Path, card: Mapping[str, Any], columns: Mapping[str, np.ndarray], asked: HeldOut) -> None:
    """Write predicted columns with their units and meanings, the object identifiers and the rows.

    Parameters
    ----------
    path : Path
        ``*.h5``.
    card : mapping
        Card of the model.
    columns : mapping of str to ndarray, shape (n, ...)
    asked : HeldOut
        The n samples.
    """
    with NewFile(path, durable=False, replace_folders=True) as new, h5py.File(new.stream, "w") as file:
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            hpctrain_version=__version__,
            family=str(card["family"]),
            model_name=str(card.get("name", "")),
        )
        file["target_id"] = asked.samples.target_id[asked.rows]
        file["row"] = asked.rows
        meanings = find_family(card["family"]).columns_of(card)
        for name, values in columns.items():
            file[name] = values
            if (column := meanings.get(name)) is not None:
                known = {"unit": column.unit, "description": column.description}
                file[name].attrs.update({key: text for key, text in known.items() if text})


def open_for(run: Path, card: Mapping[str, Any], files: list[str]) -> Samples:
    """Open files that a trained model shall predict: with the run's own ``data`` section if there is one, else with the
    defaults of the kind.

    Raises
    ------
    DataError
        They are not like the data of the model.
    """
    family = find_family(card["family"])
    kind, profile = find_kind(family.kind), run / "profile.yaml"
    if profile.is_file():
        section = load_profile(profile).data.model_copy(update={"files": files})
    else:
        section = data_section_of(family)(files=files)
    samples = kind.open(section)
    if difference := kind.read_facts(card["facts"]).difference(samples):
        raise DataError(f"{', '.join(files)}: not like the data of the model: {difference}")
    return samples


@torch.no_grad()
def predict(model: Any, batch: Any) -> dict[str, np.ndarray]:
    """Return the columns that a model in evaluation mode predicts for a prepared batch, as arrays (N, ...)."""
    columns = model.predict(batch)
    return {name: value.cpu().numpy() if torch.is_tensor(value) else value for name, value in columns.items()}
