"""How much the clusters change when the objects are drawn anew. N points, R resamples, M objects, K clusters."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from hpctrain.families.clusters.assigned import NOISE
from hpctrain.families.clusters.section import HDBSCAN

MOST_COMPARED = 2000
"""Largest number of training objects on which fits are compared, and the silhouette is computed."""

SHARE = 0.8
"""Share of the objects in a resample without replacement."""


def compared(num: int) -> np.ndarray:
    """Return which of N training points are compared, evenly spread, (M,), int64."""
    return np.linspace(0, num - 1, min(num, MOST_COMPARED)).astype(np.int64)


def resampled(num: int, method: str, seed: int) -> np.ndarray:
    """Return which of N training points a resample has.

    A bootstrap draws N of them with replacement. HDBSCAN would take the copies of a point for a dense place, so it gets
    four fifths of the points without replacement.
    """
    rng = np.random.default_rng(seed)
    if method == HDBSCAN:
        return np.sort(rng.choice(num, max(1, round(SHARE * num)), replace=False))
    return rng.integers(num, size=num)


def pairwise_agreement(replicas: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of the adjusted Rand index over all pairs of resamples.

    Parameters
    ----------
    replicas : ndarray, shape (R, M), int
        Clusters of the same objects by the fits to the resamples. Noise counts as a cluster.

    References
    ----------
    .. [1] Hubert & Arabie 1985, Journal of Classification 2, 193.
    """
    scores = [adjusted_rand_score(one, other) for one, other in combinations(replicas, 2)]
    return (float(np.mean(scores)), float(np.std(scores))) if scores else (np.nan, np.nan)


def cluster_stability(labels: np.ndarray, replicas: np.ndarray, number: int) -> np.ndarray:
    """Return for each cluster its mean Jaccard similarity with the most similar cluster of each resample, (K,).

    Parameters
    ----------
    labels : ndarray, shape (M,), int
        Clusters of the fit to all objects.
    replicas : ndarray, shape (R, M), int
    number : int
        K. A cluster that none of the M objects belongs to has NaN.

    References
    ----------
    .. [1] Hennig 2007, Computational Statistics & Data Analysis 52, 258: 0.75 and more is a stable cluster, 0.5
       and less one that dissolves.
    """
    found = np.full((len(replicas), number), np.nan)
    for row, replica in enumerate(replicas):
        count = int(replica.max(initial=NOISE)) + 1
        table = counted(labels, replica, number, count)[:number]
        own, other = table.sum(axis=1), np.bincount(replica[replica != NOISE], minlength=count)
        both = table[:, :count]
        together = own[:, None] + other - both
        best = (both / np.maximum(together, 1)).max(axis=1, initial=0.0)
        found[row] = np.where(own > 0, best, np.nan)
    return found.mean(axis=0) if len(replicas) else np.full(number, np.nan)


def counted(first: np.ndarray, second: np.ndarray, num_first: int, num_second: int) -> np.ndarray:
    """Return how many objects have each pair of numbers; -1 is the last row or column, (num_first + 1, num_second + 1).

    Parameters
    ----------
    first, second : ndarray, shape (M,), int
    num_first, num_second : int
    """
    a, b = np.where(first < 0, num_first, first), np.where(second < 0, num_second, second)
    shape = (num_first + 1, num_second + 1)
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def mean_silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean silhouette of points (M, D) that belong to a cluster; NaN for fewer than two clusters.

    References
    ----------
    .. [1] Rousseeuw 1987, Journal of Computational and Applied Mathematics 20, 53.
    """
    kept = labels != NOISE
    num = len(np.unique(labels[kept]))
    return float(silhouette_score(points[kept], labels[kept])) if 2 <= num < kept.sum() else np.nan
