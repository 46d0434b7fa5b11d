"""A task: one thing that a model predicts and that has a truth, with its metrics. R rows, D draws, K sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

LOWER, HIGHER, ZERO = "lower", "higher", "zero"
"""Which values of a metric are good: low ones, high ones, those near 0."""

SHARE, OVERLAP, MEAN, SKEWED, BOUNDED, RANKED, ORDER, DISTANCE, EDGE = (
    "share", "overlap", "mean", "skewed", "bounded", "ranked", "order", "distance", "edge"
)  # fmt: skip
"""How the interval of a metric is found; see :mod:`hpctrain.validation.intervals`."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Parameters
    ----------
    name : str
        Name in tables and gates, such as ``nmad`` or ``completeness.QSO``.
    label : str
        What people call it.
    unit : str
        As astropy writes it; empty for none.
    better : str
        ``lower``, ``higher``, or ``zero`` for a bias.
    description : str
        One sentence.
    references : tuple of str
        Sources of its formula.
    of : str
        Name of the metric without its class: ``completeness`` of ``completeness.QSO``; the name itself by default.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher", "zero"]
    description: str
    references: tuple[str, ...] = ()
    of: str = ""


class Statistic(Protocol):
    """How a metric is computed from weights of the rows.

    Attributes
    ----------
    how : str
        How its interval is found: `SHARE` and so on.
    used : ndarray, shape (R,), bool
        Rows that the metric depends on.
    values : ndarray, shape (R,), or None
        For a metric that is a weighted mean over rows, what each row adds; NaN in rows that do not count.
    """

    how: str
    used: np.ndarray
    values: np.ndarray | None

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric for each row of weights (D, R), as (D,), float64; NaN where nothing has a weight."""


@dataclass(frozen=True)
class Task:
    """One thing that a model predicts and that has a truth.

    Parameters
    ----------
    title : str
        Name of the label, or of what is judged.
    kind : str
        ``class``, ``redshift``, ``value``, ``circular``, ``spectra``, ``anomalies`` or ``clusters``.
    known : ndarray, shape (R,), bool
        Rows with truth and prediction.
    metrics : tuple of Metric
    statistics : mapping of str to Statistic
        By the name of the metric.
    arrays : mapping of str to ndarray, shape (R, ...)
        What figures and other judges read: ``true`` and ``predicted``, for numbers also ``residual``, for classes
        ``probability`` (R, C).
    details : callable
        Returns plain values beside the metrics, such as the confusion of classes.
    """

    title: str
    kind: str
    known: np.ndarray
    metrics: tuple[Metric, ...]
    statistics: Mapping[str, Statistic]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Callable[[], dict[str, Any]] = dict

    def score(self, metric: str, weights: np.ndarray | None = None) -> float:
        """Return a metric.

        Parameters
        ----------
        metric : str
            Its name.
        weights : ndarray, shape (R,), optional
            Weight of each row, 0 or more: counts of a bootstrap draw, weights of another population, or a mask of the
            rows of a bin. 1 for all rows by default.

        Returns
        -------
        float
            NaN where no known row has a weight.
        """
        return float(self.scores(metric, np.ones((1, len(self.known))) if weights is None else weights[None])[0])

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """Return a metric for each of D sets of weights (D, R), as (D,), float64."""
        return self.statistic(metric).scores(np.asarray(weights, dtype=np.float64))

    def per_row(self, metric: str) -> np.ndarray | None:
        """Return what each row adds to a metric that is a weighted mean over rows, (R,), float64; None for others.

        Rows that do not count have NaN.
        """
        return self.statistic(metric).values

    def statistic(self, metric: str) -> Statistic:
        """Return how a metric is computed.

        Raises
        ------
        KeyError
            The task has no such metric.
        """
        if metric not in self.statistics:
            raise KeyError(f"{self.title} has no metric '{metric}'; it has {', '.join(self.statistics)}")
        return self.statistics[metric]

    def metric(self, name: str) -> Metric:
        """Return the metric of this name; KeyError if the task has none."""
        self.statistic(name)
        return next(metric for metric in self.metrics if metric.name == name)


def make_task(
    title: str,
    kind: str,
    known: np.ndarray,
    parts: list[tuple[Metric, Statistic]],
    arrays: Mapping[str, np.ndarray] | None = None,
    details: Callable[[], dict[str, Any]] = dict,
) -> Task:
    """Return a task of metrics with their statistics; the arguments are those of :class:`Task`."""
    statistics = {metric.name: statistic for metric, statistic in parts}
    return Task(title, kind, known, tuple(metric for metric, _ in parts), statistics, arrays or {}, details)
