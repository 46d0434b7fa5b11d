"""Monotone maps of :mod:`~hpctrain.families.labels.monotone` on tensors: ordinary operations, which can be exported."""

from __future__ import annotations

import torch
from torch import Tensor

from hpctrain.families.labels.monotone import LARGEST_LOGIT, NUM_INTERVALS

_TINY = 1e-30


def remapped_classes(tables: Tensor, probability: Tensor) -> Tensor:
    """Return probabilities (N, C) after the map of each class (C, K + 1), divided by their sum."""
    p = probability.clamp(_TINY, 1 - 1e-7)
    logit = (p.log() - torch.log1p(-p)).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    place = (logit + LARGEST_LOGIT) * (NUM_INTERVALS / (2 * LARGEST_LOGIT))
    found = _between(tables.T, place).sigmoid()
    return found / found.sum(dim=1, keepdim=True)


def remapped_density(table: Tensor, probability: Tensor) -> Tensor:
    """Return the probabilities of bins (N, B) after the map (K + 1,) of what they cumulate to."""
    above = probability.double().cumsum(dim=1).clamp(0, 1)
    above = torch.cat([torch.zeros_like(above[:, :1]), above], dim=1)
    mapped = _between(table.double()[:, None].expand(-1, above.shape[1]), above * (len(table) - 1))
    return (mapped[:, 1:] - mapped[:, :-1]).clamp(min=0).float()


def _between(tables: Tensor, place: Tensor) -> Tensor:
    """Return tables (K + 1, C), one for each column, at places (N, C) from 0 to K, linear between their values."""
    at = place.floor().clamp(0, len(tables) - 2)
    low, high = tables.gather(0, at.long()), tables.gather(0, at.long() + 1)
    return low + (place - at) * (high - low)
