"""Monotone maps that make probabilities true: of each class, or of the cumulated probability of a density. No torch.

A map is a table of its values at places that are equally far apart, and linear between them: from logit to logit of the
probability for classes, from cumulated to cumulated probability for densities. n samples, C classes, K intervals.
"""

from __future__ import annotations

import numpy as np

NUM_INTERVALS = 64
"""K of the map of a class, whose isotonic regression has few steps of its own."""
DENSITY_INTERVALS = 16
"""K of the map of a density: each costs 1 / (2 n) nat on other objects if it was learned from n labels."""
LARGEST_LOGIT = 10.0
FEWEST_TO_REMAP = 200
"""Smallest number of labels from which a map is learned; fewer leave the identity."""
_LEAST_SLOPE = 0.02
"""Share of the identity in the map of a density, so that no value becomes impossible."""


def identity_of_classes(num_classes: int) -> np.ndarray:
    """Return the tables (C, K + 1) that change nothing."""
    return np.tile(_logits(), (num_classes, 1))


def identity_of_density() -> np.ndarray:
    """Return the table (K + 1,) that changes nothing."""
    return np.linspace(0.0, 1.0, DENSITY_INTERVALS + 1)


def _logits() -> np.ndarray:
    return np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, NUM_INTERVALS + 1)


def fit_classes(probability: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the map of each class, (C, K + 1): the isotonic regression of "is of this class" by its probability.

    No value is 0 or 1: of n labels, the next one may always be the first of its kind.

    Parameters
    ----------
    probability : ndarray, shape (n, C)
    true : ndarray, shape (n,), int64

    References
    ----------
    .. [1] Zadrozny & Elkan 2002, KDD, 694.
    """
    from sklearn.isotonic import IsotonicRegression

    size, num_classes = probability.shape
    if size < FEWEST_TO_REMAP:
        return identity_of_classes(num_classes)
    places = logit(probability)
    least = 1 / (size + 2)
    tables = [
        IsotonicRegression(out_of_bounds="clip").fit(places[:, one], true == one).predict(_logits())
        for one in range(num_classes)
    ]
    return logit(np.clip(tables, least, 1 - least))


def apply_classes(tables: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the probabilities (n, C) after their maps (C, K + 1), divided by their sum."""
    place = (logit(probability) + LARGEST_LOGIT) / (2 * LARGEST_LOGIT) * NUM_INTERVALS
    found = np.stack([_between(table, each) for table, each in zip(tables, place.T, strict=True)], axis=1)
    found = 1 / (1 + np.exp(-found))
    return found / found.sum(axis=1, keepdims=True)


def logit(probability: np.ndarray) -> np.ndarray:
    """Return the logit of probabilities, limited to +-10."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-300, 1 - 1e-16)
    return np.clip(np.log(p) - np.log1p(-p), -LARGEST_LOGIT, LARGEST_LOGIT)


def fit_density(pit: np.ndarray) -> np.ndarray:
    """Return the map (K + 1,) of the cumulated probability: the distribution of the PIT values of labels.

    Parameters
    ----------
    pit : ndarray, shape (n,)
        Predicted probability of a value below the true one.

    References
    ----------
    .. [1] Bordoloi, Lilly & Amara 2010, MNRAS 406, 881, arXiv:0910.5735.
    .. [2] Kuleshov, Fenner & Ermon 2018, ICML, arXiv:1807.00263.
    """
    table = identity_of_density()
    if len(pit) < FEWEST_TO_REMAP:
        return table
    found = np.searchsorted(np.sort(pit), table, side="right") / len(pit)
    found[0], found[-1] = 0.0, 1.0
    return (1 - _LEAST_SLOPE) * found + _LEAST_SLOPE * table


def apply_density(table: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
    """Return cumulated probabilities after the map (K + 1,)."""
    return _between(table, np.asarray(cumulated, dtype=np.float64) * (len(table) - 1))


def slope_of_density(table: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
    """Return by what the map multiplies a density where its cumulated probability is this."""
    num = len(table) - 1
    return np.diff(table)[np.clip(np.floor(np.asarray(cumulated) * num), 0, num - 1).astype(np.int64)] * num


def _between(table: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the table at places from 0 to K, linear between its values."""
    return np.interp(place, np.arange(len(table)), table)
