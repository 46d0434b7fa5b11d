"""Metrics of some of the rows only, at the cost of these rows. R rows, n of them chosen, D draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpctrain.validation.tasks.classes import MeanOf
from hpctrain.validation.tasks.ordered import Median, Sorted
from hpctrain.validation.tasks.ranked import AreaUnderRoc, Ranked
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import Statistic, Task


def restricted_task(task: Task, rows: np.ndarray) -> Task:
    """Return a task of some rows with the same metrics: limits that come from all rows stay as they are.

    Parameters
    ----------
    task : Task
    rows : ndarray, shape (n,), int64
    """
    statistics = {name: restricted(statistic, rows) for name, statistic in task.statistics.items()}
    arrays = {name: array[rows] for name, array in task.arrays.items()}
    return replace(task, known=task.known[rows], statistics=statistics, arrays=arrays, details=dict)


def restricted(statistic: Any, rows: np.ndarray) -> Statistic:
    """Return a statistic of some rows (n,), which takes weights (D, n)."""
    if isinstance(statistic, Sums):
        values = None if statistic.values is None else statistic.values[rows]
        return replace(statistic, columns=statistic.columns[rows], used=statistic.used[rows], values=values)
    if isinstance(statistic, Median):
        return replace(statistic, sorted=Sorted(np.asarray(statistic.sorted.values)[rows]))
    if isinstance(statistic, AreaUnderRoc):
        own = statistic.ranked
        return replace(statistic, ranked=Ranked(own.score[rows], own.is_positive[rows], own.known[rows]))
    if isinstance(statistic, MeanOf):
        return MeanOf([restricted(each, rows) for each in statistic.parts])
    return _Scattered(statistic, rows)


@dataclass(frozen=True)
class _Scattered:
    """Any other statistic: the weights of the rows that are not chosen are 0."""

    whole: Statistic
    rows: np.ndarray

    @property
    def how(self) -> str:
        return self.whole.how

    @property
    def used(self) -> np.ndarray:
        return self.whole.used[self.rows]

    @property
    def values(self) -> np.ndarray | None:
        return None if self.whole.values is None else self.whole.values[self.rows]

    def scores(self, weights: np.ndarray) -> np.ndarray:
        full = np.zeros((len(weights), len(self.whole.used)))
        full[:, self.rows] = weights
        return self.whole.scores(full)
