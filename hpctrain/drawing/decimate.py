"""Reduce the points of a line to those that the columns of the page can show."""

from __future__ import annotations

import numpy as np


def decimate(x: np.ndarray, y: np.ndarray, num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the lowest and the highest point of each column of the page, so that no spike is lost.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Positions, ascending.
    y : ndarray, shape (n,)
        Values; NaN interrupts the line.
    num_columns : int
        Columns of the page; each keeps at most two points.

    Returns
    -------
    x, y : ndarray, shape (m,)
        Points in the given order, with a NaN at each interruption of the line.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    index = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(index):
        return np.empty(0), np.empty(0)
    dense = len(y) > 2 * num_columns
    width = (x[index[-1]] - x[index[0]]) / num_columns or 1.0
    column = np.minimum(((x[index] - x[index[0]]) / width).astype(np.int64), num_columns - 1)
    if dense:
        order = np.lexsort((y[index], column))
        edges = np.flatnonzero(np.diff(column[order], prepend=-1, append=-1))
        chosen = np.unique(np.concatenate([order[edges[:-1]], order[edges[1:] - 1]]))
        index, column = index[chosen], column[chosen]
    # missing values between two kept points interrupt the line, unless they are narrower than a column
    num_bad = np.cumsum(~(np.isfinite(x) & np.isfinite(y)))
    breaks = np.flatnonzero((np.diff(num_bad[index]) > 0) & (np.diff(column) > (1 if dense else -1))) + 1
    return np.insert(x[index], breaks, np.nan), np.insert(y[index], breaks, np.nan)


def column_means(x: np.ndarray, values: list[np.ndarray], num_columns: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the mean of each array in columns of the page; NaN in columns without a finite value."""
    x = np.asarray(x, dtype=np.float64)
    width = (x[-1] - x[0]) / num_columns or 1.0
    column = np.minimum(((x - x[0]) / width).astype(np.int64), num_columns - 1)
    centres = x[0] + (np.arange(num_columns) + 0.5) * width
    means = []
    for value in values:
        finite = np.isfinite(value)
        count = np.bincount(column[finite], minlength=num_columns)
        total = np.bincount(column[finite], weights=value[finite].astype(np.float64), minlength=num_columns)
        means.append(np.divide(total, count, out=np.full(num_columns, np.nan), where=count > 0))
    used = np.bincount(column, minlength=num_columns) > 0
    return centres[used], [mean[used] for mean in means]


def running_mean(y: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of each value's neighbours with Gaussian weights. It ignores NaN, and has fewer neighbours at the
    ends.

    Parameters
    ----------
    y : ndarray, shape (n,)
    width : int
        Standard deviation of the weights, in numbers of values; below 1 the values remain unchanged.
    """
    if width < 1 or len(y) < 3:
        return y
    reach = min(3 * width, len(y) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    finite = np.isfinite(y)
    weight = np.convolve(finite.astype(np.float64), kernel)[reach : reach + len(y)]
    total = np.convolve(np.where(finite, y, 0.0), kernel)[reach : reach + len(y)]
    return np.divide(total, weight, out=np.full(len(y), np.nan), where=finite & (weight > 0))
