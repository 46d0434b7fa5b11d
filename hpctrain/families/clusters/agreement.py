"""How well clusters agree with known classes: scores of a table of counts. K clusters, C classes. No torch here."""

from __future__ import annotations

import numpy as np

SCORES = ("ari", "nmi", "purity")
NUM_DRAWS = 400


def agreement(table: np.ndarray) -> dict[str, float]:
    """Return adjusted Rand index, normalised mutual information and purity.

    Parameters
    ----------
    table : ndarray, shape (K, C)
        Number of objects of each cluster and class. Noise is a row like the clusters.

    Returns
    -------
    dict of str to float
        ``ari``: 1 for the same groups, 0 for groups by chance. ``nmi``: mutual information divided by the mean of both
        entropies. ``purity``: share of objects in the most frequent class of their cluster; it is large for many
        clusters. Empty for a table of zeros.

    References
    ----------
    .. [1] Hubert & Arabie 1985, Journal of Classification 2, 193.
    .. [2] Vinh, Epps & Bailey 2010, JMLR 11, 2837.
    """
    table = np.asarray(table, dtype=np.float64)
    total = table.sum()
    if not total:
        return {}
    return {"ari": _ari(table, total), "nmi": _nmi(table / total), "purity": float(table.max(axis=1).sum() / total)}


def _ari(table: np.ndarray, total: float) -> float:
    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    everything = total * (total - 1) / 2
    by_chance = rows * columns / everything if everything else 0.0
    largest = (rows + columns) / 2
    return (both - by_chance) / (largest - by_chance) if largest != by_chance else 1.0


def _nmi(p: np.ndarray) -> float:
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    mutual = entropy(rows) + entropy(columns) - entropy(p)
    mean = (entropy(rows) + entropy(columns)) / 2
    return float(np.clip(mutual / mean, 0.0, 1.0)) if mean > 0 else 1.0


def entropy(p: np.ndarray) -> float:
    """Return the entropy of probabilities of any shape [nat]."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def agreement_intervals(table: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Return each score with the ends of its 95 % interval, by a bootstrap over the objects."""
    value = agreement(table)
    if not value:
        return {}
    table = np.asarray(table, dtype=np.int64)
    drawn = np.random.default_rng(0).multinomial(table.sum(), table.ravel() / table.sum(), size=NUM_DRAWS)
    scores = [agreement(one.reshape(table.shape)) for one in drawn]
    ends = {name: np.quantile([one[name] for one in scores], (0.025, 0.975)).tolist() for name in SCORES}
    return {name: (value[name], *ends[name]) for name in SCORES}
