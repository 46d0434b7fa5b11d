"""Whether two rows have the same noise: the difference of copies is smaller than their errors allow. L numbers.

Two observations of one object differ by the errors of both, so the reduced chi-square of their difference is about 1.
That of copies is much smaller, also if a copy was scaled, calibrated anew, or got a little more noise. No torch here.
"""

from __future__ import annotations

import numpy as np

from hpctrain.samples.split import TEST
from hpctrain.validation.audit.inputs import Inputs
from hpctrain.validation.audit.rows import Rows

LIMIT = 0.25
"""Reduced chi-square below which two rows are copies: half as much noise again as the errors gives 0.13."""

FEWEST_COMMON = 8
"""Numbers that two rows must have in common, beside half of those of the shorter one."""

SURE = 1e-6
"""Chance below which two observations do not agree so well; thousands of pairs are compared."""

FEWEST_RANDOM = 20
"""Random pairs that must have enough in common, so that they say how different objects differ."""

MOST_NUMBERS = 16384
"""Numbers of a row that are compared; of more, evenly spread ones."""

NUM_RANDOM = 128
"""Random pairs from which follows what different objects differ by, in case that the errors are too large."""

ITERATIONS = 3
"""Fits of the scale, each without the numbers that the last one did not fit."""

ABSURD = 1000.0
"""Deviation of a number from the others that no first fit uses [median deviation]."""

_OF_MEDIAN = 0.4549364
"""Median of chi-square with one degree of freedom."""


def same_noise(first: Inputs, second: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Compare rows with rows, after the best scale.

    Parameters
    ----------
    first, second : Inputs
        n rows each. The second row is multiplied by a parabola along the row and gets one added, as another flux
        calibration does. The median makes a few changed numbers harmless.

    Returns
    -------
    chi2 : ndarray, shape (n,)
        Reduced chi-square of the difference; NaN if the rows have too little in common.
    count : ndarray, shape (n,), int64
        Numbers in common, minus those that the scale was fitted with.
    """
    found = [_of_pair(first, second, row) for row in range(len(first))]
    return np.array([chi2 for chi2, _ in found]), np.array([count for _, count in found], dtype=np.int64)


def are_copies(chi2: np.ndarray, count: np.ndarray, typical: float) -> np.ndarray:
    """Return which pairs (n,) have the same noise.

    Parameters
    ----------
    chi2, count : ndarray, shape (n,)
        What :func:`same_noise` returns.
    typical : float
        What :func:`typical_difference` returns.
    """
    from scipy.stats import binom
    from scipy.stats import chi2 as distribution

    relative = np.where(np.isfinite(chi2), chi2, np.inf) / typical
    below = distribution.cdf(np.minimum(relative, 1) * _OF_MEDIAN, 1)
    chance = binom.sf((count + 1) // 2 - 1, np.maximum(count, 1), below)
    return (relative < LIMIT) & (chance < SURE)


def _of_pair(first: Inputs, second: Inputs, row: int) -> tuple[float, int]:
    a, weight_a, b, weight_b, place = _common(first, second, row)
    shorter = min(int((each.weight[row] > 0).sum()) for each in (first, second))
    if len(a) < max(FEWEST_COMMON, shorter / 2):
        return np.nan, 0
    if not first.has_errors:
        weight_a, weight_b = (np.full(len(x), _plain_weight(x)) for x in (a, b))
    shapes = [np.ones_like(b)]
    if len(a) >= 20 * FEWEST_COMMON:
        shapes += [place, place**2]
    factors = np.stack(shapes, axis=1)
    design = np.concatenate([factors * b[:, None], factors], axis=1)
    use, scale, value = _is_ordinary(a) & _is_ordinary(b), np.ones_like(b), np.nan
    if use.sum() < FEWEST_COMMON:
        return np.nan, 0
    for _ in range(ITERATIONS):
        weight = 1 / (1 / weight_a + scale**2 / weight_b)
        root = np.sqrt(weight[use])
        solution = np.linalg.lstsq(design[use] * root[:, None], a[use] * root, rcond=None)[0]
        deviation = np.square(a - design @ solution) * weight
        value = float(np.median(deviation)) / _OF_MEDIAN
        use = deviation <= 25 * max(value, 1e-12)
        scale = factors @ solution[: len(shapes)]
        if use.sum() < FEWEST_COMMON:
            return np.nan, 0
    return value, len(a) - design.shape[1]


def _common(first: Inputs, second: Inputs, row: int) -> tuple[np.ndarray, ...]:
    """Return values and weights of both rows, float64, where both are known, and their place along the row, -1 to 1."""
    if first.slot is None or second.slot is None:
        at = other = np.flatnonzero((first.weight[row] > 0) & (second.weight[row] > 0))
        length = first.values.shape[1]
    else:
        known, known_too = np.flatnonzero(first.weight[row] > 0), np.flatnonzero(second.weight[row] > 0)
        slots, slots_too = first.slot[row, known], second.slot[row, known_too]
        _, here, there = np.intersect1d(slots, slots_too, return_indices=True)
        at, other, length = known[here], known_too[there], first.values.shape[1]
    if len(at) > MOST_NUMBERS:
        chosen = np.linspace(0, len(at) - 1, MOST_NUMBERS).astype(np.int64)
        at, other = at[chosen], other[chosen]
    found = [first.values[row, at], first.weight[row, at], second.values[row, other], second.weight[row, other]]
    return *(each.astype(np.float64) for each in found), at / max(1, length - 1) * 2 - 1


def _is_ordinary(values: np.ndarray) -> np.ndarray:
    """Return which values are not absurd, as after a flipped bit: one of them would decide a fit."""
    away = np.abs(values - np.median(values))
    return away <= ABSURD * (np.median(away) or np.inf)


def _plain_weight(values: np.ndarray) -> float:
    """Return an inverse variance for values without errors, from the scatter of neighbours."""
    size = 1.4826 * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2)
    size = size or float(np.std(values)) * 0.01
    return 1 / size**2 if size > 0 else 1.0


def typical_difference(rows: Rows) -> float:
    """Return the reduced chi-square that all but few random pairs exceed; 1, or less if the errors are too large."""
    used = np.flatnonzero(rows.side <= TEST)
    if len(used) < 2:
        return 1.0
    pairs = np.random.default_rng(4).choice(used, (NUM_RANDOM, 2))
    pairs = pairs[rows.target_id[pairs[:, 0]] != rows.target_id[pairs[:, 1]]]
    found = [np.zeros(0)]
    for start in range(0, len(pairs), 64):
        block = pairs[start : start + 64]
        found.append(same_noise(rows.read(block[:, 0]), rows.read(block[:, 1]))[0])
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    return min(1.0, float(np.quantile(values, 0.05))) if len(values) >= FEWEST_RANDOM else 1.0
