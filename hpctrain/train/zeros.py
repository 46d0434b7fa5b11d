"""Keep pruned weights at 0 (``train.keep_zeros``): their gradient is set to 0, so their moments stay 0 as well."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Mask = tuple[torch.nn.Parameter, torch.Tensor]
"""A parameter and its mask, of the same shape and dtype: 0 where the weight stays 0, 1 elsewhere."""


def find_zeros(parameters: Sequence[torch.nn.Parameter]) -> list[Mask]:
    """Return the masks of the matrices and filters that contain zeros.

    Call it with the weights from which the run starts, never with those of a checkpoint: a weight that becomes 0 by
    chance later is not pruned, but a resumed attempt would treat it as pruned.

    Parameters
    ----------
    parameters : sequence of Parameter
        Parameters; those with fewer than two dimensions (biases) are skipped.
    """
    masks = [(parameter, (parameter.detach() != 0).to(parameter.dtype)) for parameter in parameters]
    return [(parameter, mask) for parameter, mask in masks if parameter.dim() >= 2 and not bool(mask.all())]


def mask_gradients(masks: Sequence[Mask]) -> None:
    """Zero the gradient of the weights that stay 0, before its norm is taken and the moments are updated."""
    for parameter, mask in masks:
        if parameter.grad is not None:
            parameter.grad.mul_(mask)
