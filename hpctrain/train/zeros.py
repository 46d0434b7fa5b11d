"""Pruned weights that stay pruned (``train.keep_zeros``): their gradient is 0, so their moments and they stay 0."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Mask = tuple[torch.nn.Parameter, torch.Tensor]
"""A parameter, and of its shape and type: 0 where it stays 0, 1 elsewhere."""


def find_zeros(parameters: Sequence[torch.nn.Parameter]) -> list[Mask]:
    """Return the masks of the matrices and filters that hold zeros.

    The weights must be those the run starts from, not those of a checkpoint: a weight that is 0 by chance later is not
    pruned, and a resumed attempt would otherwise take it for one.

    Parameters
    ----------
    parameters : sequence of Parameter
        Those with fewer than two dimensions (biases) are passed over.
    """
    masks = [(parameter, (parameter.detach() != 0).to(parameter.dtype)) for parameter in parameters]
    return [(parameter, mask) for parameter, mask in masks if parameter.dim() >= 2 and not bool(mask.all())]


def mask_gradients(masks: Sequence[Mask]) -> None:
    """Take the gradient from the weights that stay 0, before its norm is measured and moments are made of it."""
    for parameter, mask in masks:
        if parameter.grad is not None:
            parameter.grad.mul_(mask)
