"""Importance of each filter and unit: the change of the loss of training spectra if the unit is removed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.families.spectral_vae.encoder import SpectrumEncoder
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.transform import normalise

_BATCH = 8
_SEED = 1


def unit_importance(
    model: SpectralVAE, card: dict[str, Any], spectra: SpectraSet, rows: np.ndarray
) -> dict[str, Tensor]:
    """Return the importance of every filter and hidden unit.

    Removing a unit sets the input of its activation to 0. To first order the loss then changes by the
    sum, over the parameters that produce this input, of parameter times gradient. For a filter these are scale and bias
    of its normalisation. The terms of the filter's own weights add up to 0, because normalisation removes their scale.

    Parameters
    ----------
    model : SpectralVAE
        In evaluation mode, on the CPU.
    card : dict
        The model's card.
    spectra : SpectraSet
    rows : ndarray of int64
        Training spectra.

    Returns
    -------
    dict of Tensor, shape (units,)
        Mean squared change of the loss, by name of the layer: ``encoder.blocks.0``, ``encoder.perceptron.0``,
        ``decoder.hidden.0``.

    References
    ----------
    .. [1] Molchanov et al. 2019, "Importance estimation for neural network pruning", arXiv:1906.10771, eq. 8.
    """
    section = NormaliseSection.model_validate_json(json.dumps(card["normalise"]))
    totals: dict[str, Tensor] = {}
    torch.manual_seed(_SEED)  # the latents are drawn
    for start in range(0, len(rows), _BATCH):
        model.zero_grad(set_to_none=True)
        sums = model(normalise(spectra.read(rows[start : start + _BATCH]), section), model.beta_warmup_steps)
        (sums["loss_sum"] / sums["weight_sum"].clamp(min=1)).backward()
        for name, change in _changes(model):
            totals[name] = totals.get(name, 0) + change.square()
    model.zero_grad(set_to_none=True)
    return totals


def _changes(model: SpectralVAE) -> list[tuple[str, Tensor]]:
    """Return parameter times gradient of each unit, by layer."""
    found = []
    blocks = model.encoder.blocks if isinstance(model.encoder, SpectrumEncoder) else ()
    for index, block in enumerate(blocks):
        norm = block.norm
        found.append((f"encoder.blocks.{index}", (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad)[:, 0]))
    for name, layers in (("encoder.perceptron", model.encoder.perceptron), ("decoder.hidden", model.decoder.hidden)):
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                change = (layer.weight * layer.weight.grad).sum(dim=1) + layer.bias * layer.bias.grad
                found.append((f"{name}.{index}", change))
    return [(name, change.detach()) for name, change in found]
