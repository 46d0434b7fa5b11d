"""Which values of a sample carry its loss: pixels, points or columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST = 5
"""Largest number of places that are named for a sample."""
_WORTH = 0.005
"""Smallest share, or height relative to the largest one, of a place that is named."""
NOT_FINITE, GRADIENT, UNUSUAL = "not finite", "gradient times value", "unusual value"


@dataclass(frozen=True)
class Carrier:
    """One place in a sample.

    Parameters
    ----------
    index : tuple of int
        Place in the tensors of the sample; empty for a single number.
    values : dict of str to float
        The prepared values there by the name of their tensor.
    share : float or None
        Share of this place in the sum over all places; None where nothing can be summed.
    why : str
        ``not finite``; ``gradient times value``, where the loss has a gradient; ``unusual value``, where it has none.
    coordinate : float or None
        Wavelength or time of the place.
    height : float or None
        Distance of an unusual value from the median of the batch, in standard deviations (1.4826 times the median
        absolute deviation).
    """

    index: tuple[int, ...]
    values: dict[str, float]
    share: float | None
    why: str
    coordinate: float | None = None
    height: float | None = None

    def describe(self, coordinate: str | None) -> str:
        """Return the place and the values in words."""
        where = f"[{', '.join(map(str, self.index))}] " if self.index else ""
        if len(self.index) == 3:
            where = "band {}, row {}, column {}: ".format(*self.index)
        if self.coordinate is not None:
            where += f"{coordinate} {self.coordinate:.6g}: "
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        if self.share is not None:
            return f"{where}{values} ({100 * self.share:.0f} %)"
        tail = f"{self.height:.3g} σ from the median of the batch" if self.height is not None else self.why
        return f"{where}{values} ({tail})"


def carriers(leaves: Mapping[str, Tensor], batch: Mapping[str, Tensor], where: np.ndarray | None) -> list[Carrier]:
    """Return the places that carry the loss of one sample, the largest share first.

    Where the loss has a finite gradient, a place counts with the absolute value of gradient times value, summed over
    the tensors of one shape (such as flux and inverse variance): to first order, the change of the loss if these values
    change by their own size. Elsewhere the values that are not finite, or lie farthest from the others of the batch.

    Parameters
    ----------
    leaves : mapping of str to Tensor, shape (1, ...)
        Prepared inputs of the sample with their gradients.
    batch : mapping of str to Tensor, shape (N, ...)
        The same of the whole micro-batch.
    where : ndarray, shape (n,), optional
        Coordinates along the last axis.

    References
    ----------
    .. [1] Shrikumar et al. 2016, "Not just a black box: learning important features through propagating activation
       differences", arXiv:1605.01713 (gradient times input).
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, leaf in leaves.items():
        groups.setdefault(tuple(leaf.shape[1:]), []).append(name)
    bad = [found for names in groups.values() for found in _not_finite(leaves, names, where)]
    if bad:
        return bad[:MOST]
    if all(leaf.grad is not None and bool(torch.isfinite(leaf.grad).all()) for leaf in leaves.values() if leaf.numel()):
        return _by_gradient(leaves, groups, where)
    return _unusual(leaves, batch, groups, where)


def _not_finite(leaves: Mapping[str, Tensor], names: list[str], where: np.ndarray | None) -> list[Carrier]:
    # A missing value may be NaN where the network expects it, so only infinite values are suspicious there.
    values = torch.stack([leaves[name].detach()[0] for name in names])
    places = torch.isinf(values).any(dim=0).reshape(-1).nonzero()[:, 0].tolist()[:MOST]
    return [_carrier(leaves, names, place, None, NOT_FINITE, where) for place in places]


def _by_gradient(
    leaves: Mapping[str, Tensor], groups: Mapping[tuple[int, ...], list[str]], where: np.ndarray | None
) -> list[Carrier]:
    found: list[tuple[float, list[str], int]] = []
    total = 0.0
    for names in groups.values():
        parts = [(leaves[name].grad * leaves[name].detach()).double().abs().reshape(-1) for name in names]
        sums = torch.nan_to_num(torch.stack(parts)).sum(dim=0)
        total += float(sums.sum())
        best = torch.topk(sums, min(MOST, len(sums)))
        found += [(value, names, place) for value, place in zip(*map(Tensor.tolist, best), strict=True)]
    found = sorted(found, key=lambda item: -item[0])[:MOST]
    if not 0 < total < math.inf:
        return []
    return [
        _carrier(leaves, names, place, value / total, GRADIENT, where)
        for value, names, place in found
        if value > _WORTH * total
    ]


def _unusual(
    leaves: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    groups: Mapping[tuple[int, ...], list[str]],
    where: np.ndarray | None,
) -> list[Carrier]:
    found: list[tuple[float, list[str], int]] = []
    for names in groups.values():
        heights = torch.stack([_heights(leaves[name].detach(), batch[name]) for name in names]).amax(dim=0)
        best = torch.topk(heights, min(MOST, len(heights)))
        found += [(value, names, place) for value, place in zip(*map(Tensor.tolist, best), strict=True)]
    found = sorted(found, key=lambda item: -item[0])[:MOST]
    return [
        _carrier(leaves, names, place, None, UNUSUAL, where, height)
        for height, names, place in found
        if height > _WORTH * found[0][0]
    ]


def _heights(values: Tensor, batch: Tensor) -> Tensor:
    """Return the distances of values from the median of the batch, in its standard deviations, shape (n,)."""
    known = batch.detach().double().reshape(-1)
    known = known[torch.isfinite(known)]
    if not len(known):
        return torch.zeros(values.numel(), dtype=torch.float64, device=values.device)
    middle = known.median()
    spread = 1.4826 * (known - middle).abs().median()
    if spread == 0:
        spread = known.abs().mean() + 1e-30
    return torch.nan_to_num((values.double().reshape(-1) - middle).abs() / spread)


def _carrier(
    leaves: Mapping[str, Tensor],
    names: list[str],
    place: int,
    share: float | None,
    why: str,
    where: np.ndarray | None,
    height: float | None = None,
) -> Carrier:
    shape = tuple(leaves[names[0]].shape[1:])
    index = tuple(int(number) for number in np.unravel_index(place, shape)) if shape else ()
    values = {name: float(leaves[name].detach()[0][index]) for name in names}
    coordinate = float(where[index[-1]]) if where is not None and len(shape) == 1 and shape[0] == len(where) else None
    return Carrier(index, values, share, why, coordinate, height)
