"""Structured pruning takes whole filters out, the least important ones, and keeps the arithmetic of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_parts import CARD, CONVOLUTIONAL, SECTION

from hpctrain.edge.importance import unit_importance
from hpctrain.edge.prune import PrunePlan
from hpctrain.edge.slim import kept_units, slim
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.transform import normalise

ROWS = np.arange(24)


only_convolutions = pytest.mark.parametrize("section", [CONVOLUTIONAL], indirect=True)


@pytest.fixture(params=[SECTION, CONVOLUTIONAL], ids=["least squares", "convolutions"])
def section(request):
    return request.param


@pytest.fixture
def importance(model, spectra):
    return unit_importance(model, CARD, spectra, ROWS)


@pytest.fixture
def batch(spectra):
    return normalise(spectra.read(np.arange(8)), NormaliseSection())


@torch.no_grad()
def silence(model, importance, share):
    """Do the same to the large network: nothing of the pruned units gets through."""
    channels = CONVOLUTIONAL.encoder_channels
    for index, width in enumerate(channels if hasattr(model.encoder, "blocks") else ()):
        pairs = 2 if index == len(channels) - 1 else 1
        values = importance[f"encoder.blocks.{index}"][: width // pairs]
        gone = values.argsort(descending=True, stable=True)[kept_units(len(values), len(values), share) :]
        norm = model.encoder.blocks[index].norm
        norm.weight[gone], norm.bias[gone] = 0.0, 0.0
    for name, layers in (("encoder.perceptron", model.encoder.perceptron), ("decoder.hidden", model.decoder.hidden)):
        for index, layer in enumerate(layers):
            if isinstance(layer, torch.nn.Linear):
                values = importance[f"{name}.{index}"]
                gone = values.argsort(descending=True, stable=True)[kept_units(len(values), len(values), share) :]
                layer.weight[gone], layer.bias[gone] = 0.0, 0.0


@pytest.mark.parametrize("share", [0.5, 0.3, 0.05])
def test_the_smaller_network_computes_what_the_larger_does_with_these_units_silent(
    model, section, importance, batch, share
):
    smaller, _ = slim(model, section, section, importance, share)
    silence(model, importance, share)
    with torch.no_grad():
        for ours, theirs in zip(smaller.describe(batch), model.describe(batch), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_of_every_layer_goes_and_latents_and_output_stay(model, section, importance):
    smaller, left = slim(model, section, section, importance, 0.5)
    assert left.encoder_hidden == [8, 6]
    assert left.decoder_hidden == [8, 12]
    assert smaller.encoder.mean.out_features == 3
    assert smaller.grid == model.grid
    number = [sum(weight.numel() for weight in network.parameters()) for network in (smaller, model)]
    assert number[0] < 0.55 * number[1]


@only_convolutions
def test_half_of_the_filters_go(model, section, importance):
    smaller, left = slim(model, section, section, importance, 0.5)
    assert left.encoder_channels == [6, 8]
    assert smaller.encoder.blocks[1].conv.weight.shape == (8, 6, 8)


@only_convolutions
def test_the_last_convolution_keeps_values_and_attention_in_pairs(model, section, importance):
    for share in (0.9, 0.7, 0.4, 0.1, 0.01):
        _, left = slim(model, section, section, importance, share)
        assert left.encoder_channels[-1] % 2 == 0
        assert min(left.encoder_channels + left.encoder_hidden + left.decoder_hidden) >= 1


@only_convolutions
def test_a_filter_that_does_nothing_goes_first(model, spectra):
    with torch.no_grad():
        model.encoder.blocks[0].norm.weight[4] = 0.0
        model.encoder.blocks[0].norm.bias[4] = 0.0
        model.decoder.output.weight[:, 7] = 0.0
    importance = unit_importance(model, CARD, spectra, ROWS)
    assert importance["encoder.blocks.0"].argmin() == 4
    assert importance["decoder.hidden.3"].argmin() == 7
    assert importance["encoder.blocks.0"][4] == 0.0


@only_convolutions
def test_importance_predicts_what_scaling_a_filter_does_to_the_loss(model, spectra, batch):
    importance = unit_importance(model, CARD, spectra, np.arange(8))["encoder.blocks.1"]
    norm = model.encoder.blocks[1].norm

    @torch.no_grad()
    def loss_with(unit, factor):
        kept = norm.weight.clone(), norm.bias.clone()
        norm.weight[unit] *= factor
        norm.bias[unit] *= factor
        torch.manual_seed(1)  # as `unit_importance` draws the latents
        sums = model(batch, 0)
        norm.weight.copy_(kept[0])
        norm.bias.copy_(kept[1])
        return float(sums["loss_sum"].double() / sums["weight_sum"].double())

    units = importance[: len(importance) // 2].argsort(descending=True)[:3].tolist()  # others drown in rounding
    for unit in units:
        slope = (loss_with(unit, 1.1) - loss_with(unit, 0.9)) / 0.2
        assert importance[unit].item() == pytest.approx(slope**2, rel=0.2)


def test_rounds_take_the_same_part_each_time_and_end_where_asked():
    plan = PrunePlan("structured", 0.5, 3, 100)
    kept = [plan.kept(number) for number in range(4)]
    assert kept[0] == 1.0
    assert kept[3] == pytest.approx(0.5)
    assert kept[1] / kept[0] == pytest.approx(kept[2] / kept[1]) == pytest.approx(kept[3] / kept[2])
