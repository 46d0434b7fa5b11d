"""Points of a scatter plot: each one where they are few, cells of a grid where they are many."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_POINTS = 3000
"""Largest number of points that are drawn one by one."""
NUM_CELLS = (96, 72)
FEWEST = 4
"""Smallest number of points of a cell that is drawn as a cell; the others are drawn one by one."""


def cloud(
    x: np.ndarray,
    y: np.ndarray,
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    log: bool = False,
    num_cells: tuple[int, int] = NUM_CELLS,
) -> dict[str, Any]:
    """Return points as ``x``, ``y`` and ``cells`` of a :class:`~hpctrain.drawing.described.figure.Cloud`.

    Parameters
    ----------
    x, y : ndarray, shape (N,)
        Points that are not finite are left out. Those beyond `y_limits` are put on its edge, so that outliers are seen.
    x_limits, y_limits : (float, float)
        Edges of the grid.
    log : bool
        Whether the cells are equal in the logarithm of x.
    num_cells : (int, int)
        Cells along x and y.
    """
    x, y = np.asarray(x, dtype=np.float64), np.clip(np.asarray(y, dtype=np.float64), *y_limits)
    good = np.isfinite(x) & np.isfinite(y) & (x >= x_limits[0]) & (x <= x_limits[1])
    x, y = x[good], y[good]
    if len(x) <= MOST_POINTS:
        return {"x": x, "y": y}
    (low, high), place = (np.log(x_limits), np.log(x)) if log else (x_limits, x)
    column = _cell(place, low, high, num_cells[0])
    row = _cell(y, *y_limits, num_cells[1])
    cell = column * num_cells[1] + row
    counts = np.bincount(cell, minlength=num_cells[0] * num_cells[1])
    filled = np.flatnonzero(counts >= FEWEST)
    alone = np.flatnonzero(counts[cell] < FEWEST)
    alone = alone[np.linspace(0, len(alone) - 1, min(len(alone), MOST_POINTS)).astype(np.int64)]
    cells = [[int(at) // num_cells[1], int(at) % num_cells[1], int(counts[at])] for at in filled]
    grid = {"x": [*x_limits, num_cells[0]], "y": [*y_limits, num_cells[1]], "filled": cells}
    return {"x": x[alone], "y": y[alone], "cells": grid}


def _cell(values: np.ndarray, low: float, high: float, number: int) -> np.ndarray:
    return np.clip(((values - low) / (high - low) * number).astype(np.int64), 0, number - 1)
