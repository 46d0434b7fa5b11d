"""Encoders with the names of timm: equal tensors, equal features, and batch normalisation that does not change."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from hpctrain.families.image_cnn.encoders.build import build
from hpctrain.families.image_cnn.encoders.layers import FrozenBatchNorm
from hpctrain.families.image_cnn.encoders.plans import PLANS, RESIDUAL, Shape
from hpctrain.families.image_cnn.section import Encoder

TENSORS = {
    "resnet18": "d8365faffa0f7337",
    "resnet34": "e07a26acf3d8136e",
    "resnet50": "235adc60434f8b2d",
    "resnet101": "0b1383452bfed200",
    "resnet50_gn": "f171e0db4e55bec6",
    "efficientnet_lite0": "80f8420d1a85ebb7",
    "efficientnet_lite1": "9866720d011f295b",
    "efficientnet_lite2": "26673e0343fce6d0",
    "efficientnet_lite3": "7804a89916082209",
    "efficientnet_lite4": "0e7cfd82e0b120ff",
    "tf_efficientnet_lite0": "80f8420d1a85ebb7",
    "tf_efficientnet_lite1": "9866720d011f295b",
    "tf_efficientnet_lite2": "26673e0343fce6d0",
    "tf_efficientnet_lite3": "7804a89916082209",
    "tf_efficientnet_lite4": "0e7cfd82e0b120ff",
    "convnext_nano": "d082b7d26ab061e4",
    "convnext_tiny": "9fb7f999c68db6b1",
    "convnext_small": "7273f1bc02fd4ff0",
    "convnext_base": "b51dc4baeb396e36",
}
"""Hashes of names and shapes of timm 1.0.31's networks, without classifier and counters."""

FEATURES = {
    "resnet18": (3.67405, 3.14205, 2.51224, 0.806925),
    "resnet50_gn": (1.03229, 0.878574, 1.95939, 1.06564),
    "efficientnet_lite0": (1.01478, 1.08567, 2.03512, 0.0461457),
    "tf_efficientnet_lite0": (1.03664, 1.10819, 2.93412, 0.424231),
    "convnext_nano": (0.0028977, 1.00741, 1.95814, 0.360592),
}
"""Mean, standard deviation and two values of the features that timm 1.0.31 gives for :func:`images`, with the weights
of :func:`drawn`."""


def hashed(tensors: Iterable[tuple[str, Shape]]) -> str:
    """Return the hash of names and shapes in any order."""
    text = json.dumps(sorted((name, list(shape)) for name, shape in tensors))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drawn(shapes: Mapping[str, Shape]) -> dict[str, torch.Tensor]:
    """Return random weights, which depend on their names only."""
    found = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("running_var"):
            values = 1 + 0.2 * np.abs(values)
        elif len(shape) > 1:
            values *= (2 / np.prod(shape[1:])) ** 0.5
        else:
            values = 1 - 0.1 * values if name.endswith(("weight", "gamma")) else 0.1 * values
        found[name] = torch.from_numpy(values).float()
    return found


def images() -> torch.Tensor:
    """Return two images, (2, 3, 67, 64)."""
    return torch.sin(torch.arange(2 * 3 * 67 * 64).reshape(2, 3, 67, 64) * 0.37)


def features(encoder: nn.Module) -> torch.Tensor:
    """Return the features (2, F) of :func:`images`."""
    with torch.no_grad():
        x = encoder.begin(images())
        for block in encoder.each_block():
            x = block(x)
        return encoder.pooled(x)


def test_a_profile_can_name_each_encoder():
    assert get_args(Encoder) == (RESIDUAL, *PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_names_and_shapes_of_all_tensors_are_those_of_timm(name):
    assert hashed(PLANS[name].tensors()) == TENSORS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", FEATURES)
def test_features_are_those_of_timm(name):
    encoder, plan = build(PLANS[name]), PLANS[name]
    assert {key: tuple(value.shape) for key, value in encoder.state_dict().items()} == dict(plan.tensors())
    encoder.load_state_dict(drawn(dict(plan.tensors())))
    found = features(encoder)
    assert found.shape == (2, plan.num_features)
    numbers = [found.mean(), found.std(), found[0, 7], found[1, 11]]
    assert [number.item() for number in numbers] == pytest.approx(FEATURES[name], rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_the_installed_timm_gives_the_same_features():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    weights = drawn(dict(PLANS["tf_efficientnet_lite0"].tensors()))
    theirs.load_state_dict(weights, strict=False)
    ours = build(PLANS["tf_efficientnet_lite0"])
    ours.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(features(ours), theirs(images()))


def test_frozen_batch_normalisation_is_that_of_torch_in_evaluation_and_never_changes():
    torch.manual_seed(1)
    theirs, ours = nn.BatchNorm2d(4, eps=1e-3), FrozenBatchNorm(4, eps=1e-3)
    for value in theirs.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2)
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if name != "num_batches_tracked"})
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(ours.train()(x), theirs.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
