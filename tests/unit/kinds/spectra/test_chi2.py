"""Reduced chi-square of one spectrum."""

import numpy as np
import pytest
import torch

from hpctrain.kinds.spectra.chi2 import reduced_chi2, reduced_chi2_of_arrays


def test_true_model_and_honest_noise_give_one():
    generator = torch.Generator().manual_seed(0)
    ivar = 10 ** (6 * torch.rand(200, 1000, generator=generator) - 3)
    truth = torch.rand(200, 1000, generator=generator)
    flux = truth + torch.randn(200, 1000, generator=generator) / ivar.sqrt()
    chi2 = reduced_chi2(flux, truth, ivar)
    assert float(chi2.mean()) == pytest.approx(1.0, abs=3 * (2 / 200_000) ** 0.5)


def test_it_is_the_same_in_any_unit_of_flux():
    """Dividing flux by N and multiplying ivar by N squared, as normalisation does, changes nothing."""
    generator = torch.Generator().manual_seed(0)
    flux, model = torch.rand(5, 100, generator=generator), torch.rand(5, 100, generator=generator)
    ivar = torch.rand(5, 100, generator=generator)
    torch.testing.assert_close(reduced_chi2(flux / 8, model / 8, ivar * 64), reduced_chi2(flux, model, ivar))


@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf")])
def test_masked_pixels_count_neither_above_nor_below(garbage):
    flux, ivar = torch.full((1, 10), 2.0), torch.ones(1, 10)
    flux[0, 5:], ivar[0, 5:] = garbage, 0
    assert reduced_chi2(flux, torch.ones(1, 10), ivar).tolist() == [1.0]


def test_pixels_the_model_does_not_reach_do_not_count():
    covered = torch.tensor([[True, False]])
    assert reduced_chi2(torch.tensor([[2.0, 9.0]]), torch.ones(1, 2), torch.ones(1, 2), covered).tolist() == [1.0]


def test_a_row_without_a_valid_pixel_has_none():
    chi2 = reduced_chi2(torch.ones(2, 3), torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [0, 0, 0]]))
    assert torch.isnan(chi2).tolist() == [False, True]


def test_arrays_give_what_tensors_give():
    rng = np.random.default_rng(2)
    flux, model = rng.normal(size=(2, 6, 50)).astype(np.float32)
    ivar = rng.uniform(size=(6, 50)).astype(np.float32)
    covered = rng.random((6, 50)) < 0.8
    ivar[rng.random((6, 50)) < 0.3], ivar[5] = 0, 0
    flux[ivar == 0] = np.inf
    expected = reduced_chi2(*map(torch.from_numpy, (flux, model, ivar, covered))).numpy()
    found = reduced_chi2_of_arrays(flux, model, ivar, covered)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert np.isnan(found[5])
    assert reduced_chi2_of_arrays(flux[0], model[0], ivar[0], covered[0]) == found[0]
