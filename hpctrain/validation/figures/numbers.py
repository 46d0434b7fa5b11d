"""Figures of numbers: predicted against true values with residuals, the residuals, and PIT. R rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from hpctrain.drawing.described.cloud import cloud
from hpctrain.drawing.described.figure import figure
from hpctrain.validation.tasks.ordered import NMAD_FACTOR
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.tasks.values import CIRCULAR, OUTLIER_LIMITS, REDSHIFT

Described = dict[str, Any]

NUM_BINS = 15
"""Bins of equally many rows for the median and the spread of the residuals."""
FEWEST = 20
"""Smallest number of rows of which a figure says something."""
PIT_BINS = 20
_HISTOGRAM_BINS = 60
_REACH = 6.0
"""Robust scatters that a histogram of residuals shows on each side."""


def number_figures(task: Task, columns: Mapping[str, np.ndarray], unit: str, confidence: float) -> list[Described]:
    """Return the figures of a number.

    Parameters
    ----------
    task : Task
        Of the kind ``redshift``, ``value`` or ``circular``.
    columns : mapping of str to ndarray, shape (R, ...)
        Of the results; ``<title>_PIT`` is used if there is one.
    unit : str
        Unit of the values.
    confidence : float
        Share of the histogram bars that shall be in the expected band.
    """
    rows = task.known
    if np.count_nonzero(rows) < FEWEST:
        return []
    true, predicted, residual = (task.arrays[name][rows] for name in ("true", "predicted", "residual"))
    figures = [
        truth_figure(task, true, predicted, residual, unit),
        residual_figure(task, residual, unit),
    ]
    pit = columns.get(f"{task.title}_PIT")
    if pit is not None and np.isfinite(pit).sum() >= FEWEST:
        figures.append(pit_figure(task.title, pit[np.isfinite(pit)], confidence))
    return figures


def truth_figure(task: Task, true: np.ndarray, predicted: np.ndarray, residual: np.ndarray, unit: str) -> Described:
    """Return predicted against true values (R,), with the residuals below."""
    in_unit = f" [{unit}]" if unit else ""
    ends = np.concatenate([true, predicted])
    low, high = float(ends.min()), float(ends.max())
    air = 0.02 * (high - low) or 1.0
    limits = (low - air, high + air)
    reach = _reach(task, residual)
    own = task.kind == REDSHIFT
    label = f"(predicted − true) / (1 + {task.title})" if own else f"predicted − true{in_unit}"
    middle = _running(true, residual)
    lower = {
        "axis": {"label": label, "low": -reach, "high": reach},
        **cloud(true, residual, limits, (-reach, reach), num_cells=(96, 36)),
        "lines": [_flat(limits, 0.0), *middle],
    }
    beyond = int((np.abs(residual) > reach).sum())
    caption = (
        f"{len(true):,} rows. Dashed: equality{', and the limits of outliers' if own else ''}. Below: the residuals, "
        f"their median and the middle 68 % in {NUM_BINS} bins of equally many rows."
    )
    if beyond:
        caption += f" {beyond:,} residuals beyond the edge are on it."
    data = {**cloud(true, predicted, limits, limits), "lines": _ideal(limits, own), "lower": lower}
    axes = {
        "x": {"label": f"true {task.title}{in_unit}", "low": limits[0], "high": limits[1]},
        "y": {"label": f"predicted {task.title}{in_unit}", "low": limits[0], "high": limits[1]},
    }
    return figure(f"{task.title}.truth", "Predicted and true values", "scatter", data, caption, axes=axes)


def _reach(task: Task, residual: np.ndarray) -> float:
    """Return how far the axis of residuals reaches: what 99.5 % of the rows need."""
    return float(np.quantile(np.abs(residual), 0.995)) * 1.05 or 1.0


def _flat(limits: tuple[float, float], value: float) -> Described:
    return {"x": list(limits), "y": [value, value], "style": "reference"}


def _ideal(limits: tuple[float, float], is_redshift: bool) -> list[Described]:
    ends = np.array(limits)
    lines = [{"x": ends, "y": ends, "style": "reference"}]
    if is_redshift:
        far = max(OUTLIER_LIMITS)
        lines += [{"x": ends, "y": ends + sign * far * (1 + ends), "style": "reference"} for sign in (-1, 1)]
    return lines


def _running(x: np.ndarray, y: np.ndarray) -> list[Described]:
    """Return the median and the middle 68 % of y (R,) in bins of x (R,) with equally many rows."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, NUM_BINS) if len(part) >= 5]
    if len(parts) < 3:
        return []
    low, middle, high = np.array([np.quantile(y[part], (0.16, 0.5, 0.84)) for part in parts]).T
    centre = [float(np.median(x[part])) for part in parts]
    return [{"x": centre, "y": middle, "low": low, "high": high, "name": "median, middle 68 %"}]


def residual_figure(task: Task, residual: np.ndarray, unit: str) -> Described:
    """Return the distribution of residuals (R,) beside a normal one of the same robust scatter."""
    middle = float(np.median(residual))
    scatter = NMAD_FACTOR * float(np.median(np.abs(residual - middle)))
    reach = _REACH * scatter or float(np.abs(residual).max()) or 1.0
    edges = np.linspace(middle - reach, middle + reach, _HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(residual, edges)
    beyond = len(residual) - int(counts.sum())
    data: Described = {"edges": edges, "series": [{"values": counts}], "marks": [{"value": 0.0}]}
    caption = f"Dashed: no error. Beyond the edges: {beyond:,} of {len(residual):,}."
    if scatter > 0:
        data["expected"] = len(residual) * np.diff(stats.norm.cdf(edges, middle, scatter))
        caption = f"Line: a normal distribution with the same median and robust scatter (NMAD). {caption}"
    label = f"(predicted − true) / (1 + {task.title})" if task.kind == REDSHIFT else "predicted − true"
    in_unit = f" [{unit}]" if unit and task.kind != REDSHIFT else ""
    turned = ", the shorter way" if task.kind == CIRCULAR else ""
    axes = {"x": {"label": f"{label}{turned}{in_unit}"}, "y": {"label": "rows"}}
    return figure(f"{task.title}.residual", "Residuals", "histogram", data, caption, axes=axes)


def pit_figure(title: str, pit: np.ndarray, confidence: float) -> Described:
    """Return the histogram of PIT values (R,) with the band in which chance keeps each bar.

    The number in a bar is binomial if the predicted densities are right. The band holds all bars at once with the given
    probability, by Bonferroni's inequality.

    References
    ----------
    .. [1] Dawid 1984, JRSS A 147, 278.
    """
    counts, edges = np.histogram(np.clip(pit, 0, 1), np.linspace(0, 1, PIT_BINS + 1))
    tail = 0.5 * (1 - confidence) / PIT_BINS
    low, high = stats.binom.ppf([tail, 1 - tail], len(pit), 1 / PIT_BINS)
    data = {
        "edges": edges,
        "series": [{"values": counts}],
        "expected": np.full(PIT_BINS, len(pit) / PIT_BINS),
        "expected_low": np.full(PIT_BINS, low),
        "expected_high": np.full(PIT_BINS, high),
    }
    outside = int(((counts < low) | (counts > high)).sum())
    caption = (
        "Probability below the true value (PIT): flat if the predicted densities are right. Band: where all bars are "
        f"with {100 * confidence:g} % probability if they are; {outside} of {PIT_BINS} bars are outside."
    )
    axes = {"x": {"label": "probability below the true value"}, "y": {"label": "rows"}}
    return figure(f"{title}.pit", "PIT", "histogram", data, caption, axes=axes)
