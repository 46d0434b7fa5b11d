"""The rest-frame grid: where a pixel lands, what lies between two, and what is out of reach."""

import math

import numpy as np
import pytest
import torch

from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.rest_grid import RestGrid

FACTS = SpectraFacts(
    num_pixels=500, wavelength_aa=(3600.0, 9824.0), redshift_min=0.1, redshift_max=2.0, wavelength_middle_aa=6714.5
)
OBSERVED = torch.linspace(3600.0, 9824.0, 500)


def test_default_grid_reaches_every_observed_pixel_at_every_redshift():
    grid = RestGrid.for_data(FACTS)
    position = grid.position(OBSERVED, torch.tensor([0.1, 1.0, 2.0]))
    assert bool(grid.covers(position).all())


def test_default_grid_is_as_fine_as_the_data_on_average():
    grid = RestGrid.for_data(FACTS)
    assert grid.log_step == pytest.approx(math.log(9824 / 3600) / 499, rel=2e-3)


def test_given_range_and_number_of_pixels_are_taken():
    grid = RestGrid.for_data(FACTS, (1000.0, 8000.0), 300)
    wavelength = grid.wavelength_aa
    assert len(wavelength) == 300
    assert float(wavelength[0]) == pytest.approx(1000.0)
    assert float(wavelength[-1]) == pytest.approx(8000.0)


def test_interpolation_equals_numpy_in_log_wavelength():
    grid = RestGrid.for_data(FACTS)
    rest = torch.randn(2, grid.num_pixels, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    redshift = torch.tensor([0.3, 1.7])
    ours = grid.interpolate(rest, grid.position(OBSERVED, redshift))
    for row, z in enumerate(redshift.double().numpy()):
        rest_observed = np.log(OBSERVED.double().numpy() / (1 + z))
        theirs = np.interp(rest_observed, np.log(grid.wavelength_aa.numpy()), rest[row].numpy())
        np.testing.assert_allclose(ours[row].numpy(), theirs, atol=1e-7)


def test_a_line_comes_out_at_one_plus_z_times_its_rest_wavelength():
    grid = RestGrid.for_data(FACTS)
    wavelength = grid.wavelength_aa
    rest = torch.exp(-0.5 * ((wavelength - 2798.0) / 30.0) ** 2)[None].float()
    fine = torch.linspace(3600.0, 9824.0, 20001)
    observed = grid.interpolate(rest, grid.position(fine, torch.tensor([1.0])))
    assert float(fine[observed[0].argmax()]) == pytest.approx(2 * 2798.0, abs=10.0)


def test_position_keeps_a_thousandth_of_a_pixel_on_a_long_grid():
    grid = RestGrid(math.log(600.0), 1e-4, 28000)
    wavelength = torch.tensor([9000.0], dtype=torch.float32)
    position = grid.position(wavelength, torch.tensor([0.123456], dtype=torch.float32))
    z = float(torch.tensor(0.123456, dtype=torch.float32))
    assert float(position) == pytest.approx((math.log(9000.0 / (1 + z)) - math.log(600.0)) / 1e-4, abs=1e-3)


def test_pixels_beyond_the_grid_are_not_covered_and_finite():
    grid = RestGrid.for_data(FACTS, (3000.0, 5000.0))
    position = grid.position(OBSERVED, torch.tensor([0.0]))
    covered = grid.covers(position)[0]
    assert torch.equal(covered, (OBSERVED <= 5000.0))
    assert bool(torch.isfinite(grid.interpolate(torch.ones(1, grid.num_pixels), position)).all())


@pytest.mark.parametrize("redshift", [float("nan"), -1.0, float("inf")])
def test_an_unusable_redshift_gives_finite_positions(redshift):
    grid = RestGrid.for_data(FACTS)
    position = grid.position(OBSERVED, torch.tensor([redshift]))
    assert bool(torch.isfinite(position).all())


def test_rows_may_have_wavelengths_of_their_own():
    grid = RestGrid.for_data(FACTS)
    redshift = torch.tensor([0.5, 0.5])
    own = torch.stack([OBSERVED, OBSERVED + 10.0])
    position = grid.position(own, redshift)
    torch.testing.assert_close(position[0], grid.position(OBSERVED, redshift)[0])
    torch.testing.assert_close(position[1], grid.position(OBSERVED + 10.0, redshift)[1])


def test_bins_are_the_weighted_means_of_what_falls_into_them():
    grid = RestGrid(math.log(2000.0), math.log(2.0) / 400, 401)  # 2000 to 4000 AA
    generator = torch.Generator().manual_seed(0)
    wavelength = torch.tensor(4000.0 * np.exp(math.log(2.0) / 400 * np.arange(401)))  # the same pixels at z = 1
    flux, ivar = torch.randn(1, 401, generator=generator), torch.rand(1, 401, generator=generator)
    ivar[0, 100:110] = 0
    mean, weight = grid.bin_spectra(flux, ivar, wavelength, torch.tensor([1.0]), 401)
    torch.testing.assert_close(mean, torch.where(ivar > 0, flux, 0))
    torch.testing.assert_close(weight, ivar)
    constant, _ = grid.bin_spectra(torch.full((1, 401), 3.0), ivar, wavelength, torch.tensor([1.0]), 8)
    torch.testing.assert_close(constant, torch.full((1, 8), 3.0))


def test_bins_nothing_falls_into_are_zero():
    grid = RestGrid.for_data(FACTS)
    flux = torch.ones(2, 500)
    mean, weight = grid.bin_spectra(flux, flux, OBSERVED, torch.tensor([2.0, float("nan")]), 16)
    assert float(mean[0, -1]) == float(weight[0, -1]) == 0.0
    assert float(mean[0, 0]) == 1.0
    assert bool(torch.isfinite(mean).all())
