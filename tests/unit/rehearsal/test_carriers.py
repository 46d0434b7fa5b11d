"""Which values of a sample carry its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpctrain.rehearsal.carriers import GRADIENT, NOT_FINITE, UNUSUAL, carriers


def leaves_of(flux, loss):
    leaves = {"flux": flux.clone().requires_grad_(), "ivar": torch.ones_like(flux).requires_grad_()}
    value = loss(leaves)
    if value is not None:
        value.backward()
    return leaves


def chi2(leaves):
    return (leaves["ivar"] * leaves["flux"] ** 2).sum()


def test_a_pixel_that_carries_the_loss_comes_first_with_its_share_and_wavelength():
    flux = torch.ones(1, 10)
    flux[0, 7] = 10.0
    [first, *_] = carriers(leaves_of(flux, chi2), {}, np.linspace(4000, 4900, 10))
    assert (first.index, first.why, first.coordinate) == ((7,), GRADIENT, 4700.0)
    assert first.share == pytest.approx(100 / 109)
    assert first.values == {"flux": 10.0, "ivar": 1.0}


def test_a_pixel_of_an_image_has_band_row_and_column():
    image = torch.zeros(1, 2, 4, 5)
    image[0, 1, 2, 3] = 4.0
    assert carriers(leaves_of(image, chi2), {}, None)[0].index == (1, 2, 3)


def test_without_a_finite_gradient_the_most_unusual_value_comes_first():
    flux = torch.ones(1, 10)
    flux[0, 3] = 1e30
    batch = {"flux": torch.randn(8, 10, generator=torch.Generator().manual_seed(1)), "ivar": torch.ones(8, 10)}
    found = carriers(leaves_of(flux, chi2), batch, None)
    assert found[0].index == (3,)
    assert found[0].why == UNUSUAL


def test_infinite_values_come_before_everything_else():
    flux = torch.ones(1, 10)
    flux[0, 5] = torch.inf
    assert [(place.index, place.why) for place in carriers(leaves_of(flux, chi2), {}, None)] == [((5,), NOT_FINITE)]
