"""Chi-square at all redshifts, and the log grid on which it is computed."""

import numpy as np
import pytest
import torch
from tiny_templates import STEP, TEMPLATES, WAVELENGTH, model

from hpctrain.redshift.log_grid import to_log_grid
from hpctrain.redshift.search import TemplateSearch, coefficient_penalty, polynomials


def spectra(num=3, seed=0):
    rng = np.random.default_rng(seed)
    flux = 5.0 * model(1, np.linspace(0.5, 1.2, num), rng.normal(size=(num, 2)))
    ivar = rng.uniform(0.0, 4.0, flux.shape) * (rng.uniform(size=flux.shape) > 0.1)
    return flux + rng.normal(size=flux.shape), ivar


def direct_chi2(template, flux, ivar, shift):
    """Least squares on the pixels themselves; the prior of the coefficients are further equations."""
    pixels = np.round(np.log(WAVELENGTH) / STEP).astype(int) - shift - template.first
    basis = template.basis[:, np.clip(pixels, 0, template.basis.shape[1] - 1)]
    sums = torch.tensor(ivar @ basis[0] ** 2), torch.tensor((ivar * flux) @ basis[0])
    penalty = [float(each) for each in coefficient_penalty(*sums, len(basis))]
    curves = np.concatenate([basis, polynomials(torch.log(torch.from_numpy(WAVELENGTH))).numpy()])
    design = np.concatenate([curves.T * np.sqrt(ivar)[:, None], np.diag(np.sqrt(penalty))])
    target = np.concatenate([flux * np.sqrt(ivar), np.zeros(len(curves))])
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.square(target - design @ solution).sum()


@pytest.mark.parametrize("number", [0, 1])
def test_chi2_by_fft_is_that_of_a_least_squares_fit_at_each_redshift(number):
    flux, ivar = spectra()
    on_grid = to_log_grid(torch.from_numpy(flux), torch.from_numpy(ivar), torch.from_numpy(WAVELENGTH), STEP)
    template = TEMPLATES.classes[number]
    search = TemplateSearch(template, STEP, on_grid.first, on_grid.num_pixels)
    chi2 = search.chi2(on_grid).numpy()
    low, high = template.shifts(STEP)
    assert chi2.shape == (3, high - low + 1)
    for shift in (low, low + 1, (low + high) // 2, high - 1, high):
        direct = [direct_chi2(template, flux[row], ivar[row], shift) for row in range(3)]
        np.testing.assert_allclose(chi2[:, shift - search.first_shift], direct, rtol=1e-8)


def test_a_sum_on_the_log_grid_is_the_sum_over_the_observed_pixels():
    rng = np.random.default_rng(4)
    wavelength = np.sort(rng.uniform(4000.0, 4400.0, 300))
    flux, ivar = rng.normal(size=(2, 300)), rng.uniform(0.0, 2.0, (2, 300))
    on_grid = to_log_grid(*(torch.from_numpy(each) for each in (flux, ivar, wavelength)), STEP)
    pixels = on_grid.first + np.arange(on_grid.num_pixels)
    curve = rng.normal(size=len(pixels))
    observed = np.interp(np.log(wavelength) / STEP, pixels, curve)
    np.testing.assert_allclose(on_grid.weight.numpy() @ curve, ivar @ observed)
    np.testing.assert_allclose(on_grid.weighted_flux.numpy() @ curve, (ivar * flux) @ observed)
    np.testing.assert_allclose(on_grid.square.numpy(), (ivar * flux**2).sum(axis=1))


def test_each_spectrum_may_have_a_grid_of_its_own():
    flux, ivar = (torch.from_numpy(each) for each in spectra(2))
    shared = torch.from_numpy(WAVELENGTH)
    one = to_log_grid(flux, ivar, shared, STEP)
    each = to_log_grid(flux, ivar, torch.stack([shared, shared]), STEP)
    assert (one.first, one.num_pixels) == (each.first, each.num_pixels)
    assert torch.equal(one.weight, each.weight)
    assert torch.equal(one.weighted_flux, each.weighted_flux)


def test_padding_of_a_spectrum_does_not_widen_the_grid():
    flux, ivar = (torch.from_numpy(each) for each in spectra(2))
    wavelength = torch.from_numpy(np.stack([WAVELENGTH, WAVELENGTH]))
    ivar[:, :5], ivar[1] = 0, 0
    padded = wavelength.clone()
    padded[:, :5], padded[1] = 1.0, torch.arange(1.0, len(WAVELENGTH) + 1)
    one, other = (to_log_grid(flux, ivar, each, STEP) for each in (wavelength, padded))
    assert (one.first, one.num_pixels) == (other.first, other.num_pixels)
    assert torch.equal(one.weight, other.weight)
    assert to_log_grid(flux, torch.zeros_like(ivar), padded, STEP).num_pixels < 1000


def test_a_component_that_repeats_the_mean_changes_nothing():
    template = TEMPLATES.classes[0]
    doubled = type(template)("GALAXY", template.first, np.stack([template.basis[0]] * 2), 0.0, 0.9, 100)
    alone = type(template)("GALAXY", template.first, template.basis[:1], 0.0, 0.9, 100)
    flux, ivar = spectra()
    on_grid = to_log_grid(torch.from_numpy(flux), torch.from_numpy(ivar), torch.from_numpy(WAVELENGTH), STEP)
    chi2 = [TemplateSearch(each, STEP, on_grid.first, on_grid.num_pixels).chi2(on_grid) for each in (doubled, alone)]
    torch.testing.assert_close(*chi2, rtol=1e-9, atol=1e-6)
