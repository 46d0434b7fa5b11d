"""Clusters as dense regions (HDBSCAN), and the approximate clusters of new points. N points, D axes, K clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import KDTree
from sklearn.cluster import HDBSCAN
from torch import Tensor

from hpctrain.families.clusters.assigned import NOISE, Assigned

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

MOST_DEFAULT_SAMPLES = 10
"""Largest `min_samples` where the profile sets none."""


class DenseRegions:
    """The training points with their clusters.

    A new point gets the cluster of the training point that is nearest in mutual reachability distance, unless that
    distance is larger than any from a point of that cluster to its nearest neighbour in it: then it is noise. A
    training point is its own nearest one, so it keeps its cluster. The distance of two points is the largest of their
    distance and of both distances to their neighbour number `min_samples`, themselves included.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``points`` (N, D), ``core`` (N,): distance to that neighbour, ``cluster`` (N,), ``probability`` (N,), ``gap``
        (K,): the largest distance within a cluster, ``min_samples`` (1,).

    References
    ----------
    .. [1] Campello, Moulavi & Sander 2013, PAKDD, LNCS 7819, 160.
    .. [2] McInnes, Healy & Astels 2017, Journal of Open Source Software 2, 205: a similar rule for new points.
    """

    names = ("points", "core", "cluster", "probability", "gap", "min_samples")
    is_network = False

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.points, self.core = np.array(arrays["points"]), np.array(arrays["core"])
        self.cluster, self.probability = np.array(arrays["cluster"]), np.array(arrays["probability"])
        self.gap, self.min_samples = np.array(arrays["gap"]), np.array(arrays["min_samples"])
        if not len(self.points) == len(self.core) == len(self.cluster) == len(self.probability):
            raise ValueError("the arrays of the training points have different lengths")
        self._tree = KDTree(self.points)

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.gap)

    def __call__(self, points: Tensor) -> Assigned:
        """Return the clusters of points (N, D). The loss is 1 minus the degree of membership."""
        count = int(self.min_samples[0])
        distance, near = self._tree.query(points.numpy(), k=min(2 * count, len(self.points)))
        distance, near = distance.reshape(len(points), -1), near.reshape(len(points), -1)
        core = distance[:, min(count, distance.shape[1]) - 1]
        reach = np.maximum(np.maximum(distance, core[:, None]), self.core[near])
        first = reach.argmin(axis=1)  # of equal ones the nearest in plain distance, which comes first
        rows = np.arange(len(points))
        neighbour, reach = near[rows, first], reach[rows, first]
        cluster = self.cluster[neighbour]
        if self.num_clusters:
            cluster = np.where((cluster != NOISE) & (reach > self.gap[cluster]), NOISE, cluster)
        thinner = self.core[neighbour] / np.maximum(reach, 1e-300)
        degree = np.where(cluster == NOISE, 0.0, self.probability[neighbour] * np.minimum(1.0, thinner))
        found = [torch.from_numpy(np.asarray(values)) for values in (cluster.astype(np.int64), reach, degree)]
        return Assigned(found[0], found[1], found[1], 1.0 - found[2], found[2])

    def state(self) -> dict[str, np.ndarray]:
        """Return its arrays."""
        return {name: getattr(self, name) for name in self.names}


def fit_density(points: np.ndarray, size: int, section: ClustersSection) -> DenseRegions:
    """Return the dense regions of points, the largest one first.

    Parameters
    ----------
    points : ndarray, shape (N, D), float64
    size : int
        Smallest number of points of a cluster.
    section : ClustersSection
    """
    count = min(section.min_samples or min(size, MOST_DEFAULT_SAMPLES), len(points))
    found = HDBSCAN(min_cluster_size=size, min_samples=count, copy=True).fit(points)
    labels = found.labels_
    number = int(labels.max(initial=-1)) + 1
    order = np.argsort(-np.bincount(labels[labels != NOISE], minlength=number), kind="stable")
    rank = np.empty(number, dtype=np.int64)
    rank[order] = np.arange(number)
    labels = np.where(labels == NOISE, NOISE, rank[labels] if number else NOISE)
    core = KDTree(points).query(points, k=[count])[0][:, 0]
    arrays = {
        "points": points,
        "core": core,
        "cluster": labels.astype(np.int64),
        "probability": np.nan_to_num(found.probabilities_.astype(np.float64)),
        "gap": _gaps(points, labels, core, number),
        "min_samples": np.array([count]),
    }
    return DenseRegions(arrays)


def _gaps(points: np.ndarray, labels: np.ndarray, core: np.ndarray, number: int) -> np.ndarray:
    """Return for each cluster the largest distance of a point to its nearest neighbour in it, (K,).

    A point's mutual reachability distance to anything is at least its core distance, and the neighbours within that
    distance are the ones to look at, so few neighbours are enough.
    """
    gaps = np.zeros(number)
    for cluster in range(number):
        own = np.flatnonzero(labels == cluster)
        distance, near = KDTree(points[own]).query(points[own], k=min(len(own), 16))
        reach = np.maximum(np.maximum(distance, core[own][:, None]), core[own][near])
        gaps[cluster] = reach[:, 1:].min(axis=1).max()
    return gaps
