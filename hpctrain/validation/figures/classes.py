"""Figures of classes: confusion, completeness and purity, ROC, precision-recall. R rows, C classes, D draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.validation.intervals import Groups
from hpctrain.validation.tasks.ranked import Ranked
from hpctrain.validation.tasks.task import Task

Described = dict[str, Any]

MOST_CLASSES = 24
"""Largest number of classes of a confusion; rarer ones are added up."""
MOST_CURVES = 5
"""Largest number of classes with a curve: the most common ones."""
DRAWS = 200
GRID = np.linspace(0.0, 1.0, 101)


def class_figures(
    task: Task, metrics: Mapping[str, Any], confusion: Mapping[str, Any], target_id: np.ndarray, confidence: float
) -> list[Described]:
    """Return the figures of a class.

    Parameters
    ----------
    task : Task
    metrics : mapping
        What ``validation.json`` holds of the metrics of the task.
    confusion : mapping
        ``classes`` and ``true_by_predicted``.
    target_id : ndarray, shape (R,), int64
        Objects, which are drawn anew for the bands.
    confidence : float
        Of the bands.
    """
    names, counts = list(confusion["classes"]), np.array(confusion["true_by_predicted"], dtype=np.int64)
    figures = [confusion_figure(task.title, names, counts), *rate_figures(task.title, names, metrics)]
    if "probability" in task.arrays:
        figures += curve_figures(task, names, counts.sum(axis=1), target_id, confidence)
    return figures


def confusion_figure(title: str, names: list[str], counts: np.ndarray) -> Described:
    """Return the confusion (C, C) of true (rows) and predicted classes, the most common true class first."""
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    names, counts = [names[at] for at in order], counts[np.ix_(order, order)]
    if len(names) > MOST_CLASSES:
        kept = MOST_CLASSES - 1
        fold = np.zeros((len(names), MOST_CLASSES), dtype=np.int64)
        fold[np.arange(len(names)), np.minimum(np.arange(len(names)), kept)] = 1
        names, counts = [*names[:kept], f"{len(names) - kept} others"], fold.T @ counts @ fold
    data = {"rows": names, "columns": names, "counts": counts, "row_label": "true", "column_label": "predicted"}
    right = int(np.trace(counts))
    caption = f"{right:,} of {int(counts.sum()):,} on the diagonal. Percentages are of the true class."
    return figure(f"{title}.confusion", "Confusion", "matrix", data, caption)


def rate_figures(title: str, names: list[str], metrics: Mapping[str, Any]) -> list[Described]:
    """Return completeness and purity of each class with their intervals."""
    known = [name for name in names if f"completeness.{name}" in metrics and f"purity.{name}" in metrics]
    if not known:
        return []
    known.sort(key=lambda name: -metrics[f"completeness.{name}"]["n"])
    series = []
    for which in ("completeness", "purity"):
        rows = [metrics[f"{which}.{name}"] for name in known]
        series.append({"name": which, **{key: [row[own] for row in rows] for key, own in _KEYS.items()}})
    series[0]["num"] = [metrics[f"completeness.{name}"]["n"] for name in known]
    axes = {"x": {"label": "share", "high": 1.0}}
    caption = "Share of a class that is found, and share right of what is called so; with intervals."
    return [
        figure(
            f"{title}.rates", "Completeness and purity", "bars", {"names": known, "series": series}, caption, axes=axes
        )
    ]


_KEYS = {"values": "value", "low": "low", "high": "high"}


def curve_figures(
    task: Task, names: list[str], num_true: np.ndarray, target_id: np.ndarray, confidence: float
) -> list[Described]:
    """Return ROC and precision-recall curves of the most common classes, each against all others, with bands."""
    probability, true = task.arrays["probability"], task.arrays["true"]
    known = task.known & np.isfinite(probability).all(axis=1)
    chosen = [at for at in np.argsort(-num_true, kind="stable")[:MOST_CURVES] if 0 < num_true[at] < known.sum()]
    if len(names) == 2:
        chosen = chosen[-1:]  # the rarer one: the curve of the other says the same
    roc, precision = [], []
    for at in chosen:
        ranked = Ranked(probability[:, at], true == at, known)
        groups = Groups(target_id[known], np.flatnonzero(known), np.ones(int(known.sum())))
        ones = known[None].astype(np.float64)
        drawn = [ones, *groups.draws(DRAWS, 0, len(known))]
        curves = [_curves(ranked, weights) for weights in drawn]
        for which, lines in enumerate((roc, precision)):
            samples = np.concatenate([pair[which] for pair in curves[1:]])
            tail = 0.5 * (1 - confidence)
            low, high = np.nanquantile(samples, (tail, 1 - tail), axis=0)
            lines.append({"x": GRID, "y": curves[0][which][0], "low": low, "high": high, "name": names[at]})
    if not chosen:
        return []
    band = f"Band: {100 * confidence:g} % at each place, by drawing objects anew {DRAWS} times."
    diagonal = {"x": [0.0, 1.0], "y": [0.0, 1.0], "style": "reference"}
    unit = {"low": 0.0, "high": 1.0}
    return [
        figure(
            f"{task.title}.roc",
            "ROC",
            "curve",
            {"lines": [*roc, diagonal]},
            f"Dashed: guessing. {band}",
            axes={"x": {"label": "share of the others called so", **unit}, "y": {"label": "completeness", **unit}},
        ),
        figure(
            f"{task.title}.precision_recall",
            "Purity and completeness",
            "curve",
            {"lines": precision},
            f"As the threshold of the probability falls. {band}",
            axes={"x": {"label": "completeness", **unit}, "y": {"label": "purity", **unit}},
        ),
    ]


def _curves(ranked: Ranked, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return completeness at each share of false ones, and purity at each completeness, (D, len(GRID)) each."""
    hits, false = ranked.counted(weights)
    completeness, purity = [], []
    for positive, negative in zip(hits, false, strict=True):
        if positive[-1] <= 0 or negative[-1] <= 0:
            completeness.append(np.full(len(GRID), np.nan))
            purity.append(np.full(len(GRID), np.nan))
            continue
        found, wrong = positive / positive[-1], negative / negative[-1]
        completeness.append(np.interp(GRID, np.append(0.0, wrong), np.append(0.0, found)))
        at = np.minimum(np.searchsorted(found, GRID * (1 - 1e-12)), len(found) - 1)
        called = positive + negative
        unknown = np.full(len(at), np.nan)  # a draw may lack the rows of the highest scores
        purity.append(np.divide(positive[at], called[at], out=unknown, where=called[at] > 0))
    return np.array(completeness), np.array(purity)
