"""Does a metric vary over the sky by more than chance? R rows, G objects, C cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_IN_CELL = 10
"""Smallest number of objects of a cell that takes part in the test."""
FEWEST_TO_FLAG = 30
"""Smallest number of objects of a cell that can be flagged."""
PERMUTATIONS = 999


@dataclass(frozen=True)
class Variation:
    """How a metric varies over cells.

    Parameters
    ----------
    num_cells, num_objects : int
        What took part.
    p : float
        Probability of such a variation, or a larger one, if the objects were anywhere; NaN without two cells.
    scatter : float
        Standard deviation of the metric over the cells beyond chance, in its unit; 0 where chance explains it all.
    cells : ndarray, shape (C,), int64
    p_cells : ndarray, shape (C,), float64
        Of each cell, adjusted for the number of cells; NaN for cells with too few objects to be flagged.
    """

    num_cells: int
    num_objects: int
    p: float
    scatter: float
    cells: np.ndarray
    p_cells: np.ndarray


def variation(
    influence: np.ndarray, cell: np.ndarray, target_id: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> Variation:
    """Test whether a metric is the same in all cells, by moving the objects to other places of the sample.

    The statistic is the chi² of the means of the cells. It is compared with that of permutations of the objects over
    their places, so the p value holds for any distribution. Each cell is compared with the largest deviation of any
    cell in each permutation.

    Parameters
    ----------
    influence : ndarray, shape (R,)
        Of each row on the metric; NaN in rows that do not count.
    cell : ndarray, shape (R,), int64
        Negative where there is no position. All rows of an object are in the cell of its first one.
    target_id : ndarray, shape (R,), int64
    permutations, seed : int

    References
    ----------
    .. [1] Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, 39: p is never 0.
    .. [2] Westfall & Young 1993, Resampling-Based Multiple Testing, Wiley: the largest of all cells.
    .. [3] DerSimonian & Laird 1986, Controlled Clinical Trials 7, 177: the scatter beyond chance.
    """
    used = np.isfinite(influence) & (cell >= 0)
    _, first, of_row = np.unique(target_id[used], return_index=True, return_inverse=True)
    of_row = of_row.reshape(-1)
    value = np.bincount(of_row, influence[used]) / np.maximum(np.bincount(of_row), 1)
    names, place, counts = np.unique(cell[used][first], return_inverse=True, return_counts=True)
    enough = counts >= FEWEST_IN_CELL
    kept = enough[place.reshape(-1)]
    value, place = value[kept], (np.cumsum(enough) - 1)[place.reshape(-1)[kept]]
    names, counts = names[enough], counts[enough]
    value = value - value.mean() if len(value) else value
    spread = float(value.std(ddof=1)) if len(value) > 1 else 0.0
    if len(names) < 2 or not spread > 0:
        return Variation(len(names), len(value), np.nan, np.nan, names, np.full(len(names), np.nan))
    chi2, _ = _compare(value, place, counts, spread)
    more, beyond = np.ones(()), np.ones(len(names))
    rng = np.random.default_rng(seed)
    own = np.abs(_deviations(value, place, counts, spread))
    for _ in range(permutations):
        other, highest = _compare(rng.permutation(value), place, counts, spread)
        more = more + (other >= chi2 * (1 - 1e-12))
        beyond += highest >= own * (1 - 1e-12)
    size = len(value) - float((counts**2).sum()) / len(value)
    excess = max(0.0, (chi2 - (len(names) - 1)) * spread**2 / size)
    p_cells = np.where(counts >= FEWEST_TO_FLAG, beyond / (permutations + 1), np.nan)
    return Variation(len(names), len(value), float(more) / (permutations + 1), excess**0.5, names, p_cells)


def _deviations(value: np.ndarray, place: np.ndarray, counts: np.ndarray, spread: float) -> np.ndarray:
    return np.bincount(place, value, minlength=len(counts)) / (np.sqrt(counts) * spread)


def _compare(value: np.ndarray, place: np.ndarray, counts: np.ndarray, spread: float) -> tuple[float, float]:
    """Return chi² over the cells, and the largest deviation of a cell that can be flagged."""
    found = _deviations(value, place, counts, spread)
    large = np.abs(found[counts >= FEWEST_TO_FLAG])
    return float(found @ found), float(large.max()) if len(large) else 0.0
