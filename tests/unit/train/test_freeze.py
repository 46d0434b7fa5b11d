"""Frozen weights are named by pattern, and a pattern that names nothing is a mistake."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpctrain.errors import ProfileError
from hpctrain.train.freeze import freeze


@pytest.fixture
def model():
    parts = {"blocks": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "head": nn.Linear(2, 1)}
    return nn.ModuleDict({"encoder": nn.ModuleDict(parts), "decoder": nn.Linear(1, 2)})


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ([], []),
        (["encoder.blocks.0"], ["encoder.blocks.0.weight", "encoder.blocks.0.bias"]),
        (["encoder.blocks.*.bias"], ["encoder.blocks.0.bias", "encoder.blocks.1.bias"]),
        (["decoder", "decoder.bias"], ["decoder.weight", "decoder.bias"]),
        (
            ["encoder"],
            [f"encoder.{name}.{kind}" for name in ("blocks.0", "blocks.1", "head") for kind in ("weight", "bias")],
        ),
    ],
    ids=["none", "a module", "a name in all", "twice", "a whole part"],
)
def test_what_a_pattern_names_is_frozen_and_nothing_else(model, patterns, frozen):
    assert freeze(model, patterns) == frozen
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == frozen


def test_every_pattern_that_fits_nothing_is_named_with_what_there_is(model):
    with pytest.raises(ProfileError) as caught:
        freeze(model, ["encoder.block.*", "decoder", "head"])
    assert [problem.message for problem in caught.value.problems] == [
        f"'{pattern}' matches no weight; "
        "the modules of the network are encoder.blocks.0, encoder.blocks.1, encoder.head, decoder"
        for pattern in ("encoder.block.*", "head")
    ]


def test_at_least_one_weight_must_be_left(model):
    with pytest.raises(ProfileError, match="leaves no weight to train"):
        freeze(model, ["*"])


def test_torch_gives_frozen_weights_no_gradient(model):
    freeze(model, ["encoder"])
    model["decoder"](model["encoder"]["head"](torch.ones(1, 2))).sum().backward()
    assert model["decoder"].weight.grad is not None
    assert model["encoder"]["head"].weight.grad is None
