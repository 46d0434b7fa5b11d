"""The clusters of one fit, with what the report shows of them. N objects, F inputs, D axes, K clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.families.clusters.assigned import NOISE, Assigned, joined
from hpctrain.families.clusters.density import DenseRegions, fit_density
from hpctrain.families.clusters.kmeans import Centres, fit_kmeans
from hpctrain.families.clusters.mixture import Mixture, fit_mixture
from hpctrain.families.clusters.section import HDBSCAN, KMEANS, MIXTURE

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

PARTITIONS: Mapping[str, Any] = {KMEANS: Centres, MIXTURE: Mixture, HDBSCAN: DenseRegions}
"""Class of the clusters of each method."""

NUM_RANKS = 1000
"""Number of intervals in which the oddity of the training objects is kept."""

MOST_FOR_MEDOID = 1000
"""Largest number of objects of a cluster among which its medoid is looked for."""

_BLOCK = 1 << 22
"""Largest number of values of pairs of point and cluster at the same time."""


def fit(points: np.ndarray, candidate: int, section: ClustersSection, seed: int, threads: int) -> Any:
    """Return the clusters of points (N, D) by the method of the section.

    Parameters
    ----------
    points : ndarray, shape (N, D), float64
    candidate : int
        Number of clusters, or smallest number of objects of one for HDBSCAN.
    section : ClustersSection
    seed : int
    threads : int
        Number of fits at the same time; it changes no bit.
    """
    if section.method == HDBSCAN:
        return fit_density(points, candidate, section)
    return (fit_kmeans if section.method == KMEANS else fit_mixture)(points, candidate, section, seed, threads)


@torch.no_grad()
def assign(partition: Any, points: np.ndarray) -> Assigned:
    """Return the clusters of many points (N, D), block by block."""
    step = max(1, _BLOCK // (max(1, partition.num_clusters) * points.shape[1]))
    tensor = torch.from_numpy(points)
    return joined([partition(tensor[start : start + step]) for start in range(0, max(1, len(points)), step)])


@dataclass(frozen=True)
class Found:
    """The clusters of a fit to all training objects.

    Parameters
    ----------
    partition : Centres, Mixture or DenseRegions
    sizes : ndarray, shape (K + 1,), int64
        Training objects of each cluster; the last number is that of noise.
    medoid_id, medoid_inputs : ndarray, shape (K,), int64 and (K, F), float32
        Of each cluster the object with the smallest mean distance to the others: its identifier and its inputs.
    ranks : ndarray, shape (NUM_RANKS + 1,), float64
        Quantiles of the oddity of the training objects.
    stability : ndarray, shape (K,), float64
        Of each cluster, over the resamples; NaN as long as that is not known.
    """

    partition: Any
    sizes: np.ndarray
    medoid_id: np.ndarray
    medoid_inputs: np.ndarray
    ranks: np.ndarray
    stability: np.ndarray

    arrays = ("sizes", "medoid_id", "medoid_inputs", "ranks", "stability")

    def state(self) -> dict[str, np.ndarray]:
        """Return all as plain arrays."""
        return {**self.partition.state(), **{name: getattr(self, name) for name in self.arrays}}

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray], method: str) -> Found:
        """Return the clusters of a state."""
        return cls(PARTITIONS[method](state), *(np.array(state[name]) for name in cls.arrays))


def describe(partition: Any, points: np.ndarray, target_id: np.ndarray, inputs: np.ndarray) -> tuple[Found, Assigned]:
    """Return the clusters with sizes, medoids and ranks, and those of the training objects.

    Parameters
    ----------
    partition : Centres, Mixture or DenseRegions
    points : ndarray, shape (N, D), float64
    target_id, inputs : ndarray, shape (N,), int64 and (N, F), float32
        Of the same objects.
    """
    assigned = assign(partition, points)
    labels, number = assigned.cluster.numpy(), partition.num_clusters
    sizes = np.bincount(np.where(labels == NOISE, number, labels), minlength=number + 1)
    medoids = np.array([medoid(points, np.flatnonzero(labels == each)) for each in range(number)], dtype=np.int64)
    known = medoids >= 0
    found = Found(
        partition,
        sizes,
        np.where(known, target_id[medoids], -1),
        np.where(known[:, None], inputs[medoids], np.float32(np.nan)),
        np.quantile(assigned.oddity.numpy(), np.linspace(0, 1, NUM_RANKS + 1)),
        np.full(number, np.nan),
    )
    return found, assigned


def medoid(points: np.ndarray, own: np.ndarray) -> int:
    """Return which of the points `own` (n,) has the smallest sum of distances to the others; -1 if there is none.

    Of more than a thousand points, a thousand that are evenly spread in the file are looked at.
    """
    if not len(own):
        return -1
    chosen = own[np.linspace(0, len(own) - 1, min(len(own), MOST_FOR_MEDOID)).astype(np.int64)]
    total = np.zeros(len(chosen))
    for point in points[chosen]:
        total += np.sqrt(np.square(points[chosen] - point).sum(axis=1))
    return int(chosen[total.argmin()])
