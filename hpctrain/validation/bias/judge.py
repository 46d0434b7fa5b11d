"""Each metric in each bin of each column, and which of them differ from the rest. R rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpctrain.profile.sections.validate import BinsSection
from hpctrain.validation.bias.difference import Difference, difference
from hpctrain.validation.bias.restricted import restricted_task
from hpctrain.validation.bins import Bin
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.intervals import Score, intervals
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.task import Metric, Task

LEVEL = 0.05
"""Probability that any bin at all is flagged where the model is the same everywhere."""
TESTED = (
    "bias",
    "nmad",
    "outliers",
    "outliers_0.15",
    "outliers_0.05",
    "crps",
    "accuracy",
    "log_loss",
    "completeness",
    "purity",
    "average_precision",
    "reduced_chi2",
)
"""Metrics that are tested in bins. Others say nearly the same as one of these, or depend on the number or the mix of
the objects of a bin even for a model that is equally good everywhere, as R², F1, CDE loss and the distance of PIT do;
or a few objects far off decide them, as the root mean square, whose test would flag bins too often.
"""
OF_OWN_CLASS = ("accuracy", "log_loss")
"""Metrics that are tested in bins of the very class that is predicted: the others need objects of all classes."""


@dataclass(frozen=True)
class Cell:
    """A metric in a bin.

    Parameters
    ----------
    task : Task
    metric : Metric
    at : int
        Number of the bin.
    score : Score
    difference : Difference
    p_adjusted : float
        By Holm's method over all tests of the run; NaN if there was no test.
    """

    task: Task
    metric: Metric
    at: int
    score: Score
    difference: Difference
    p_adjusted: float = np.nan

    @property
    def is_judged(self) -> bool:
        """Whether there was a test."""
        return bool(np.isfinite(self.difference.p))

    @property
    def is_flagged(self) -> bool:
        """Whether the metric differs from that of the rest by more than chance."""
        return self.is_judged and self.p_adjusted < LEVEL


@dataclass(frozen=True)
class ColumnBins:
    """A column with its bins, and what was found in them."""

    section: BinsSection
    bins: Sequence[Bin]
    cells: list[Cell] = field(default_factory=list)


def judge_bins(
    tasks: Sequence[Task],
    target_id: np.ndarray,
    columns: Sequence[tuple[BinsSection, Sequence[Bin]]],
    draws: int,
    confidence: float,
) -> list[ColumnBins]:
    """Return each metric of each task in each bin, tested against all other rows.

    Parameters
    ----------
    tasks : sequence of Task
    target_id : ndarray, shape (R,), int64
    columns : sequence of (BinsSection, sequence of Bin)
    draws : int
        For each interval.
    confidence : float
        Of each interval.
    """
    found = [ColumnBins(section, bins) for section, bins in columns]
    for each in found:
        for task in tasks:
            for at, part in enumerate(each.bins):
                each.cells.extend(_in_bin(task, target_id, part, at, each.section.column, draws, confidence))
    return _adjusted(found)


def _in_bin(
    task: Task, target_id: np.ndarray, part: Bin, at: int, column: str, draws: int, confidence: float
) -> list[Cell]:
    rows = np.flatnonzero(part.rows & task.known)
    own = restricted_task(task, rows)
    scores = intervals(own, [metric.name for metric in task.metrics], target_id[rows], None, draws, confidence)
    nothing = Difference(np.nan, np.nan, np.nan)
    cells = []
    for metric in task.metrics:
        tested = is_tested(task, metric, column)
        compared = difference(task, metric.name, target_id, part.rows & task.known) if tested else nothing
        cells.append(Cell(task, metric, at, scores[metric.name], compared))
    return cells


def is_tested(task: Task, metric: Metric, column: str) -> bool:
    """Return whether a metric is tested in bins of a column."""
    if task.kind == CLASS and column in (f"{task.title}_TRUE", f"{task.title}_PRED"):
        return metric.name in OF_OWN_CLASS
    return (metric.of or metric.name) in TESTED


def _adjusted(found: list[ColumnBins]) -> list[ColumnBins]:
    """Return the same with the p values of all columns together adjusted by Holm's method."""
    p = holm(np.array([cell.difference.p for each in found for cell in each.cells]))
    values = iter(p.tolist())
    return [
        ColumnBins(
            each.section,
            each.bins,
            [Cell(cell.task, cell.metric, cell.at, cell.score, cell.difference, next(values)) for cell in each.cells],
        )
        for each in found
    ]


def sizes_of(cells: Sequence[Cell]) -> Mapping[str, Any]:
    """Return how many tests there were, and how many found a difference."""
    return {"num_tests": sum(cell.is_judged for cell in cells), "num_flagged": sum(cell.is_flagged for cell in cells)}
