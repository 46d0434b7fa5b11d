"""Pruning that keeps the shape of the network: single weights, or two of each four, become 0.

Single zeros make a compressed file smaller, but make no computation faster. Two zeros among each four neighbours are a
pattern that TensorRT can use on GPUs since Ampere, Orin among them (``trtexec --sparsity=enable``).
"""

from __future__ import annotations

import torch
from torch import nn

HEADS = ("encoder.mean", "encoder.log_variance")
"""Layers whose outputs are latents; they are small, and each of their weights matters."""

_GROUP = 4
_KEPT = 2


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of convolutions and products by name, except those of the first convolution and the heads.

    The first convolution reads the spectrum itself; zeros among its few weights cost most accuracy.
    """
    found = {
        f"{name}.weight": layer.weight
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv1d | nn.Linear) and name not in HEADS
    }
    convolutions = [name for name, weight in found.items() if weight.dim() == 3]
    return {name: weight for name, weight in found.items() if name not in convolutions[:1]}


@torch.no_grad()
def zero_smallest(model: nn.Module, share: float) -> dict[str, float]:
    """Set the smallest weights of each layer to 0.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    share : float
        Share of the weights of each layer that is 0 afterwards.

    Returns
    -------
    dict of float
        Share of zeros of each layer.

    References
    ----------
    .. [1] Han et al. 2015, "Learning both weights and connections", arXiv:1506.02626.
    """
    for weight in prunable(model).values():
        number = round(share * weight.numel())
        smallest = torch.argsort(weight.abs().flatten(), stable=True)[:number]
        weight.view(-1)[smallest] = 0.0
    return zeros(model)


@torch.no_grad()
def zero_two_of_four(model: nn.Module) -> tuple[dict[str, float], list[str]]:
    """Set the two smallest of each four neighbouring weights along the inputs to 0.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.

    Returns
    -------
    shares : dict of float
        Share of zeros of each layer.
    skipped : list of str
        Layers whose number of inputs is no multiple of four.

    References
    ----------
    .. [1] Mishra et al. 2021, "Accelerating sparse deep neural networks", arXiv:2104.08378.
    """
    skipped = []
    for name, weight in prunable(model).items():
        if weight.shape[1] % _GROUP:
            skipped.append(name)
            continue
        inputs_last = weight.movedim(1, -1)  # (outputs, kernel, inputs) of a convolution
        groups = inputs_last.reshape(*inputs_last.shape[:-1], -1, _GROUP).abs()
        order = groups.argsort(dim=-1, descending=True, stable=True)
        mask = torch.zeros_like(groups).scatter_(-1, order[..., :_KEPT], 1.0)
        weight.mul_(mask.reshape(inputs_last.shape).movedim(-1, 1))
    return zeros(model), skipped


def zeros(model: nn.Module) -> dict[str, float]:
    """Return the share of zeros in each layer that can be pruned."""
    return {name: float((weight == 0).float().mean()) for name, weight in prunable(model).items()}
