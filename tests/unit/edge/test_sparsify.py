"""Zeros are where and as many as asked for."""

from __future__ import annotations

import pytest
import torch
from export_parts import CONVOLUTIONAL, SECTION

from hpctrain.edge.sparsify import prunable, zero_smallest, zero_two_of_four, zeros


@pytest.fixture(params=[SECTION, CONVOLUTIONAL], ids=["least squares", "convolutions"])
def section(request):
    return request.param


def test_the_smallest_weights_of_each_layer_become_zero(model):
    before = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    shares = zero_smallest(model, 0.7)
    assert shares.keys() == before.keys()
    for name, weight in prunable(model).items():
        assert abs(shares[name] - 0.7) < 0.01
        gone = weight == 0
        assert before[name][gone].abs().max() <= before[name][~gone].abs().min()
        assert torch.equal(weight[~gone], before[name][~gone])


def test_the_first_convolution_and_the_heads_are_left_alone(model):
    names = prunable(model)
    assert not any(name.startswith(("encoder.blocks.0.", "encoder.mean", "encoder.log_variance")) for name in names)
    assert {"encoder.perceptron.0.weight", "decoder.output.weight"} <= names.keys()
    assert ("encoder.blocks.1.conv.weight" in names) == hasattr(model.encoder, "blocks")


def test_two_of_four_inputs_are_zero_and_the_larger_two_stay(model):
    before = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    shares, skipped = zero_two_of_four(model)
    assert skipped  # 3 latents; bins and redshift with what the encoder makes of a spectrum
    for name, weight in prunable(model).items():
        if name in skipped:
            assert weight.shape[1] % 4
            assert torch.equal(weight, before[name])
            continue
        assert shares[name] == 0.5
        groups = weight.detach().movedim(1, -1).reshape(-1, 4)
        original = before[name].movedim(1, -1).reshape(-1, 4).abs()
        assert ((groups == 0).sum(dim=1) == 2).all()
        kept = torch.where(groups != 0, original, torch.inf).amin(dim=1)
        gone = torch.where(groups == 0, original, 0).amax(dim=1)
        assert (gone <= kept).all()


def test_zeros_are_counted_as_they_are(model):
    assert max(zeros(model).values()) == 0.0
    with torch.no_grad():
        model.decoder.output.weight.view(-1)[: model.decoder.output.weight.numel() // 4] = 0.0
    assert abs(zeros(model)["decoder.output.weight"] - 0.25) < 0.001
