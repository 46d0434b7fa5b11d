"""Clusters as a sum of normal distributions. N points, D axes, K clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from hpctrain.families.clusters.assigned import Assigned
from hpctrain.families.clusters.threads import side_by_side

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

MOST_ITERATIONS = 500


class Mixture(nn.Module):
    """K normal distributions; a point belongs to the one that most probably made it.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``weights`` (K,), ``means`` (K, D), ``whiten`` (K, D, D): a deviation times this matrix has unit covariance;
        ``bic`` and ``converged`` (1,).
    """

    names = ("weights", "means", "whiten", "bic", "converged")
    is_network = True

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name in self.names:
            self.register_buffer(name, torch.from_numpy(np.array(arrays[name], dtype=np.float64)))

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.weights)

    def forward(self, points: Tensor) -> Assigned:
        """Return the clusters of points (N, D), with posterior probability and Mahalanobis distance.

        The loss is minus the log of the density [nat].
        """
        white = torch.einsum("nkd,kde->nke", points[:, None] - self.means, self.whiten)
        square = white.square().sum(dim=2)
        log_volume = torch.diagonal(self.whiten, dim1=1, dim2=2).log().sum(dim=1)
        constant = self.weights.log() + log_volume - 0.5 * points.shape[1] * math.log(2 * math.pi)
        log_joint = constant - 0.5 * square
        log_density = torch.logsumexp(log_joint, dim=1)
        highest, cluster = log_joint.max(dim=1)
        distance = square.gather(1, cluster[:, None])[:, 0].sqrt()
        return Assigned(cluster, distance, -log_density, -log_density, (highest - log_density).exp())

    def state(self) -> dict[str, np.ndarray]:
        """Return its arrays."""
        return {name: getattr(self, name).numpy() for name in self.names}


def fit_mixture(points: np.ndarray, number: int, section: ClustersSection, seed: int, threads: int) -> Mixture:
    """Return the most likely of several fits, the largest component first; the arguments are those of `fit_kmeans`.

    References
    ----------
    .. [1] Dempster, Laird & Rubin 1977, Journal of the Royal Statistical Society B 39, 1.
    .. [2] Schwarz 1978, Annals of Statistics 6, 461: the Bayesian information criterion.
    """

    def fit(source: int) -> GaussianMixture:
        return GaussianMixture(
            number, covariance_type=section.covariance, max_iter=MOST_ITERATIONS, random_state=source
        ).fit(points)

    fits = side_by_side(fit, seed, section.starts, threads)
    best = max(fits, key=lambda one: one.lower_bound_)
    order = np.argsort(-best.weights_, kind="stable")
    arrays = {
        "weights": best.weights_[order],
        "means": best.means_[order],
        "whiten": _matrices(best.precisions_cholesky_, section.covariance, *best.means_.shape)[order],
        "bic": np.array([best.bic(points)]),
        "converged": np.array([float(best.converged_)]),
    }
    return Mixture(arrays)


def _matrices(precisions: np.ndarray, covariance: str, num: int, num_axes: int) -> np.ndarray:
    """Return the matrices (K, D, D) that whiten, for what scikit-learn stores for each kind of covariance."""
    if covariance == "full":
        return precisions
    if covariance == "tied":
        return np.broadcast_to(precisions, (num, num_axes, num_axes))
    if covariance == "diag":
        return precisions[:, :, None] * np.eye(num_axes)
    return precisions[:, None, None] * np.eye(num_axes)
