"""What a finished run says about its held-out samples, beside what is true. R rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.result_files import read_datasets
from hpctrain.files import open_regular
from hpctrain.rundir import RunDir, read_json
from hpctrain.validation.columns import RunColumns
from hpctrain.validation.tasks.labels import label_tasks
from hpctrain.validation.tasks.task import Task

PREDICTIONS = "predictions.h5"
LATENTS = "latents.h5"
CARD = "model.json"


@dataclass(frozen=True)
class Judged:
    """Held-out samples of a finished run: what the model says, and what is true.

    Parameters
    ----------
    run : RunDir
    name : str
        Name of the run, for tables.
    card : mapping
        ``model/model.json``.
    target_id : ndarray, shape (R,), int64
    row : ndarray, shape (R,), int64
        Rows in the data files of the run.
    columns : mapping of str to ndarray, shape (R, ...)
        What the model says, such as the columns of ``results/predictions.h5``.
    tasks : tuple of Task
        What can be judged; at least one.
    """

    run: RunDir
    name: str
    card: Mapping[str, Any]
    target_id: np.ndarray
    row: np.ndarray
    columns: Mapping[str, np.ndarray]
    tasks: tuple[Task, ...]
    files: RunColumns = field(repr=False)

    def __len__(self) -> int:
        return len(self.target_id)

    def column(self, name: str) -> np.ndarray:
        """Return a column of the run's data files, or of its results, at these rows.

        Parameters
        ----------
        name : str
            Of a column with one number or text per sample.

        Returns
        -------
        ndarray, shape (R,)

        Raises
        ------
        DataError
            There is no such column; the message names those that there are. Or the files are gone, or have changed
            since the training.
        """
        found = self.columns.get(name)
        return found if found is not None and found.ndim == 1 else self.files.read(name, self.row, self.target_id)

    def column_names(self) -> list[str]:
        """Return the names that :meth:`column` knows, sorted."""
        own = [name for name, values in self.columns.items() if values.ndim == 1]
        return sorted({*own, *self.files.names()})

    def take(self, rows: np.ndarray) -> Judged:
        """Return some of the rows: their numbers (n,), or a mask (R,)."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(
            self,
            target_id=self.target_id[rows],
            row=self.row[rows],
            columns=columns,
            tasks=tasks_of(self.card, columns),
        )

    def task(self, title: str) -> Task:
        """Return the task of a title.

        Raises
        ------
        DataError
            There is no such task; the message names those that there are.
        """
        for task in self.tasks:
            if task.title == title:
                return task
        raise DataError(f"{self.run.path}: predicts no {title}; it predicts {', '.join(t.title for t in self.tasks)}")


def tasks_of(card: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> tuple[Task, ...]:
    """Return what can be judged of the columns of a model with this card."""
    return label_tasks(card, columns)


def read_judged(run: RunDir) -> Judged:
    """Read what a finished run says about its held-out samples.

    Parameters
    ----------
    run : RunDir

    Raises
    ------
    DataError
        The run is not finished, has no held-out predictions, or nothing says what is true; the message says what to do.
    """
    card = _card(run)
    path = _results(run)
    columns = read_table(path)
    for name in ("target_id", "row"):
        if name not in columns:
            raise DataError(f"{path}: lacks {name}; an older version of hpctrain wrote it, so train the model again")
    order = np.lexsort((columns["row"], columns["target_id"]))
    columns = {name: values[order] for name, values in columns.items()}
    target_id, row = columns.pop("target_id"), columns.pop("row")
    tasks = tasks_of(card, columns)
    if not tasks:
        raise DataError(f"{path}: {_why_no_truth(card)}")
    return Judged(run, run.name, card, target_id, row, columns, tasks, RunColumns(run))


def _card(run: RunDir) -> Mapping[str, Any]:
    card = read_json(run.model / CARD)
    if not isinstance(card, dict) or not isinstance(card.get("section"), dict) or "family" not in card:
        raise DataError(
            f"{run.path}: has no finished model; look at it with 'hpctrain status {run.path}', and validate it when it "
            "is finished"
        )
    return card


def _results(run: RunDir) -> Path:
    for name in (PREDICTIONS, LATENTS):
        if (run.results / name).is_file():
            return run.results / name
    if not (run.model / "model.safetensors").is_file():
        raise DataError(
            f"{run.path}: is not finished: it has no model/model.safetensors; look at it with 'hpctrain status "
            f"{run.path}', and validate it when it is finished"
        )
    raise DataError(
        f"{run.path}: has no results/{PREDICTIONS}: it held out no samples, or none of them could be used. Hold some "
        "out (data.split.validation) and train again"
    )


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a table of results, all of the same length.

    Raises
    ------
    DataError
        The file cannot be read, is damaged, or is empty.
    """
    import h5py

    try:
        with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
            found = read_datasets(file, list(file))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    found = {name: values for name, values in found.items() if values.ndim}
    lengths = {len(values) for values in found.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise DataError(f"{path}: is damaged: it has no rows, or its columns have different lengths")
    return found


def _why_no_truth(card: Mapping[str, Any]) -> str:
    if card["section"].get("labels"):
        return (
            "says nothing of what is true: none of the held-out samples has a label. Check the columns of model.labels "
            "in the files"
        )
    return f"the family {card['family']} has nothing here that could be judged: no labels and no other truth"
