"""Scores of point estimates, densities and classes, and their bootstrap. n objects, B bins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NUM_DRAWS = 500


def nmad(residual: np.ndarray) -> float:
    """Return the robust scatter 1.4826 median |r - median r| of residuals (n,)."""
    return float(1.4826 * np.median(np.abs(residual - np.median(residual))))


def density_columns(p: np.ndarray, edges: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each object median, CRPS, CDE loss and PIT of a density that is constant within bins.

    Parameters
    ----------
    p : ndarray, shape (n, B)
        Probability of each bin.
    edges : ndarray, shape (B + 1,)
        Edges of bins of equal width.
    truth : ndarray, shape (n,)

    References
    ----------
    .. [1] Gneiting & Raftery 2007, JASA 102, 359: the CRPS.
    .. [2] Izbicki & Lee 2017, Electronic Journal of Statistics 11, 2800: the loss of conditional densities.
    """
    width = edges[1] - edges[0]
    above = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1)
    place = np.clip((truth - edges[0]) / width, 0, p.shape[1] - 1e-9)
    at, rows = place.astype(int), np.arange(len(p))
    part = place - at
    pit = above[rows, at] + part * p[rows, at]
    low, high = above[:, :-1], above[:, 1:]
    number = np.arange(p.shape[1])
    below, over = _square(low, high), _square(1 - low, 1 - high)
    whole = np.where(number < at[:, None], below, np.where(number > at[:, None], over, 0)).sum(axis=1)
    begin, end = above[rows, at], above[rows, at + 1]
    inside = part * _square(begin, pit) + (1 - part) * _square(1 - pit, 1 - end)
    first = np.minimum((high < 0.5).sum(axis=1), p.shape[1] - 1)
    share = (0.5 - low[rows, first]) / np.maximum(p[rows, first], 1e-12)
    return {
        "median": edges[first] + width * np.clip(share, 0, 1),
        "crps": width * (whole + inside),
        "cde": np.square(p).sum(axis=1) / width - 2 * p[rows, at] / width,
        "pit": pit,
    }


def _square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * a + a * b + b * b) / 3


def ks_distance(pit: np.ndarray) -> float:
    """Return the largest distance between the distribution of PIT values (n,) and a uniform one."""
    ordered, num = np.sort(pit), len(pit)
    number = np.arange(1, num + 1)
    return float(max((number / num - ordered).max(), (ordered - (number - 1) / num).max()))


def bootstrap(score: Callable[[np.ndarray], float], num: int, seed: int = 0) -> tuple[float, float, float]:
    """Return a score of all n objects, and the ends of its 95 % interval.

    Parameters
    ----------
    score : callable
        Gets rows (n,) with repetition.
    num : int
        n.
    seed : int
    """
    rng = np.random.default_rng(seed)
    drawn = [score(rng.integers(num, size=num)) for _ in range(NUM_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return score(np.arange(num)), low, high


def smoothed(values: np.ndarray, weight: np.ndarray, width: float, edges: np.ndarray) -> np.ndarray:
    """Return the probability of bins (n, B) of values (n, k) with weights (n, k), spread by a normal distribution."""
    from scipy.special import ndtr

    below = np.zeros((len(values), len(edges)))
    for column, share in zip(values.T, weight.T, strict=True):
        below += share[:, None] * ndtr((edges - column[:, None]) / width)
    p = np.diff(below, axis=1)
    return p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
