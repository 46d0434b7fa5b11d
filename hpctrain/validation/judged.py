"""What a finished run says about its held-out samples, beside what is true. R rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hpctrain.errors import DataError, ProfileError
from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.rundir import RunDir
from hpctrain.validation.columns import RunColumns
from hpctrain.validation.results import digest_of, read_card, read_results
from hpctrain.validation.tasks.anomalies import score_of, truth_of
from hpctrain.validation.tasks.of_run import UNUSUAL, tasks_of
from hpctrain.validation.tasks.task import Task


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
    files : RunColumns
        The data files of the run.
    section : ValidateSection
        Section ``validate`` of the run's profile; its defaults where the profile cannot be read.
    sha256 : str
        Of the weights of the model.
    """

    run: RunDir
    name: str
    card: Mapping[str, Any]
    target_id: np.ndarray
    row: np.ndarray
    columns: Mapping[str, np.ndarray]
    tasks: tuple[Task, ...]
    files: RunColumns = field(repr=False)
    section: ValidateSection = field(default_factory=ValidateSection, repr=False)
    sha256: str = ""

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
        if found is not None and found.ndim == 1:
            return found
        return self.files.read(name, self.row, self.target_id)

    def column_names(self) -> list[str]:
        """Return the names that :meth:`column` knows, sorted."""
        own = [name for name, values in self.columns.items() if values.ndim == 1 and not name.startswith(UNUSUAL)]
        return sorted({*own, *self.files.names()})

    def take(self, rows: np.ndarray) -> Judged:
        """Return some of the rows: their numbers (n,), or a mask (R,)."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(
            self,
            target_id=self.target_id[rows],
            row=self.row[rows],
            columns=columns,
            tasks=tasks_of(self.card, columns, self.run.results),
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


def read_judged(run: RunDir, section: ValidateSection | None = None) -> Judged:
    """Read what a finished run says about its held-out samples.

    Parameters
    ----------
    run : RunDir
    section : ValidateSection, optional
        How to judge; by default the section ``validate`` of the run's profile.

    Raises
    ------
    DataError
        The run is not finished, has no held-out predictions, or nothing says what is true; or the model or its data are
        others than when the predictions were written. The message says what to do.
    """
    card = read_card(run)
    path, columns = read_results(run)
    section = section_of(run) if section is None else section
    target_id, row = columns.pop("target_id"), columns.pop("row")
    judged = Judged(run, run.name, card, target_id, row, columns, (), RunColumns(run), section, digest_of(run))
    if section.anomalies.column is not None:
        judged = _with_unusual(judged, section.anomalies.column)
    judged = replace(judged, tasks=tasks_of(card, judged.columns, run.results))
    if not judged.tasks:
        raise DataError(f"{path}: {_why_no_truth(card)}")
    return judged


def section_of(run: RunDir) -> ValidateSection:
    """Return the section ``validate`` of the profile of a run; its defaults where the profile cannot be read."""
    from hpctrain.profile.load import load_profile

    try:
        return load_profile(run.profile).validate
    except (ProfileError, OSError):
        return ValidateSection()


def _with_unusual(judged: Judged, name: str) -> Judged:
    """Return the samples with what a column says about which are unusual.

    Raises
    ------
    DataError
        There is no such column, no sample is unusual, or the model gives no score.
    """
    where = f"{judged.run.path}: validate.anomalies"
    if score_of(judged.columns) is None:
        raise DataError(f"{where}: the family {judged.card['family']} gives no anomaly scores; remove the section")
    is_unusual, known = truth_of(judged.column(name), judged.section.anomalies.positive)
    if not is_unusual.any() or is_unusual[known].all():
        values = ", ".join(judged.section.anomalies.positive) or "a number other than 0"
        which = "none" if not is_unusual.any() else "each"
        raise DataError(
            f"{where}: {which} of the {len(judged):,} held-out samples has {values} in {name}, so anomalies cannot be "
            "judged; change column or positive"
        )
    columns = {**judged.columns, UNUSUAL: is_unusual, f"{UNUSUAL}_KNOWN": known}
    return replace(judged, columns=columns)


def _why_no_truth(card: Mapping[str, Any]) -> str:
    if card["section"].get("labels"):
        return (
            "says nothing of what is true: none of the held-out samples has a label. Check the columns of model.labels "
            "in the files"
        )
    return f"the family {card['family']} has nothing here that could be judged: no labels and no other truth"
