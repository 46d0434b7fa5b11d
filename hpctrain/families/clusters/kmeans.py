"""Clusters around centres. N points, D axes, K clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from hpctrain.families.clusters.assigned import Assigned
from hpctrain.families.clusters.threads import side_by_side

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

MOST_ITERATIONS = 500


class Centres(nn.Module):
    """K centres; a point belongs to the nearest one.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``centres`` (K, D), and ``radius`` (K,): the root of the mean square distance of the training objects.
    """

    names = ("centres", "radius")
    is_network = True

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name in self.names:
            self.register_buffer(name, torch.from_numpy(np.array(arrays[name], dtype=np.float64)))

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.centres)

    def forward(self, points: Tensor) -> Assigned:
        """Return the clusters of points (N, D). The loss is the mean over the axes of the squared distance."""
        square = (points[:, None] - self.centres).square().sum(dim=2)
        nearest, cluster = square.min(dim=1)
        distance = nearest.sqrt()
        return Assigned(cluster, distance, distance / self.radius[cluster], nearest / points.shape[1])

    def state(self) -> dict[str, np.ndarray]:
        """Return its arrays."""
        return {name: getattr(self, name).numpy() for name in self.names}


def fit_kmeans(points: np.ndarray, number: int, section: ClustersSection, seed: int, threads: int) -> Centres:
    """Return the best of several fits, the largest cluster first.

    Parameters
    ----------
    points : ndarray, shape (N, D), float64
    number : int
        K.
    section : ClustersSection
    seed : int
    threads : int
        Number of fits at the same time.

    References
    ----------
    .. [1] Lloyd 1982, IEEE Transactions on Information Theory 28, 129.
    .. [2] Arthur & Vassilvitskii 2007, SODA, 1027: the random starts.
    """

    def fit(source: int) -> KMeans:
        return KMeans(number, n_init=1, max_iter=MOST_ITERATIONS, random_state=source).fit(points)

    fits = side_by_side(fit, seed, section.starts, threads)
    best = min(fits, key=lambda one: one.inertia_)  # of equal ones the first
    square = np.square(points - best.cluster_centers_[best.labels_]).sum(axis=1)
    counts = np.bincount(best.labels_, minlength=number)
    radius = np.sqrt(np.bincount(best.labels_, square, minlength=number) / np.maximum(counts, 1))
    whole = np.sqrt(square.mean()) or 1.0
    order = np.argsort(-counts, kind="stable")
    radius = np.where(radius > 1e-3 * whole, radius, whole)  # a cluster of one object has no radius of its own
    return Centres({"centres": best.cluster_centers_[order], "radius": radius[order]})
