"""Coverage of the credible intervals of predicted densities. n rows, L levels."""

from __future__ import annotations

import numpy as np

from hpctrain.validation.intervals import wilson
from hpctrain.validation.tasks.sums import share

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.683, 0.7, 0.8, 0.9, 0.95, 0.99)


def central_level(pit: np.ndarray) -> np.ndarray:
    """Return the smallest level whose central credible interval holds the truth, (n,).

    Parameters
    ----------
    pit : ndarray, shape (n,)
        Predicted probability of a value below the true one.
    """
    return np.abs(2 * pit - 1)


def coverage_curve(
    level: np.ndarray, target_id: np.ndarray, confidence: float, levels: tuple[float, ...] = LEVELS
) -> dict[str, list[float]]:
    """Return how many credible intervals of each level hold the truth.

    Parameters
    ----------
    level : ndarray, shape (n,)
        The smallest level that holds the truth: :func:`central_level`, or the probability of all that is denser than
        the truth (highest density).
    target_id : ndarray, shape (n,), int64
    confidence : float
        Of the intervals of the coverage; rows of an object count together.
    levels : tuple of float

    Returns
    -------
    dict of str to list, each of length L
        ``level``, ``coverage``, ``low``, ``high``.

    References
    ----------
    .. [1] Wittman, Bhaskin & Tobin 2016, MNRAS 457, 4005, arXiv:1601.07857: coverage by highest density.
    """
    known, ones = np.ones(len(level), dtype=bool), np.ones(len(level))
    found: dict[str, list[float]] = {"level": list(levels), "coverage": [], "low": [], "high": []}
    for each in levels:
        inside = level <= each
        low, high = wilson(share(inside, known), ones, target_id, confidence)
        for name, value in (("coverage", float(inside.mean())), ("low", low), ("high", high)):
            found[name].append(value)
    return found


def coverage_error(level: np.ndarray) -> float:
    """Return the mean over all levels of the distance of coverage from level, 0 to 0.5.

    It is the area between the coverage curve and the diagonal, exactly.

    Parameters
    ----------
    level : ndarray, shape (n,)
        As for :func:`coverage_curve`.
    """
    size = len(level)
    edges = np.concatenate([[0.0], np.sort(np.clip(level, 0, 1)), [1.0]])
    low, high = edges[:-1], edges[1:]
    share_of = np.arange(size + 1) / size  # coverage between two levels that hold one more truth

    def area(x: np.ndarray) -> np.ndarray:  # integral of |share - x|
        return 0.5 * (x - share_of) * np.abs(x - share_of)

    return float(np.sum(area(high) - area(low)))


def error_by_chance(size: int) -> float:
    """Return the coverage error that true densities have on average with so many independent rows.

    It is the mean area of a Brownian bridge, sqrt(pi / 32), divided by the root of the number of rows.

    References
    ----------
    .. [1] Shorack & Wellner 1986, Empirical Processes with Applications to Statistics, sect. 3.8.
    """
    return float(np.sqrt(np.pi / (32 * size)))
