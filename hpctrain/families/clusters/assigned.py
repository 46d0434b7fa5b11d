"""What a set of clusters says about points. N points, D axes, K clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NOISE = -1
"""Number of the cluster of an object that belongs to none."""


@dataclass(frozen=True)
class Assigned:
    """The clusters of N points.

    Parameters
    ----------
    cluster : Tensor, shape (N,), int64
        -1 for a point that belongs to no cluster.
    distance : Tensor, shape (N,), float64
        Distance to the cluster, in the way of the method.
    oddity : Tensor, shape (N,), float64
        Larger for a point that lies farther from all clusters; it is ranked among the training objects.
    loss : Tensor, shape (N,), float64
        What the method minimises, per point.
    probability : Tensor, shape (N,), float64, optional
        Probability, or degree, of the membership.
    """

    cluster: Tensor
    distance: Tensor
    oddity: Tensor
    loss: Tensor
    probability: Tensor | None = None


def joined(parts: list[Assigned]) -> Assigned:
    """Return what several parts say, one after the other."""
    names = ["cluster", "distance", "oddity", "loss"]
    has_probability = parts[0].probability is not None
    values = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    probability = torch.cat([part.probability for part in parts]) if has_probability else None  # type: ignore[misc]
    return Assigned(**values, probability=probability)
