"""The Lyman-alpha forest of one line of sight is no template: it must not move the redshift."""

import numpy as np
import torch
from tiny_templates import STEP, batch_of

from hpctrain.redshift.estimate import RedshiftEstimator, with_model_error
from hpctrain.redshift.forest import LYMAN_ALPHA_AA, SCATTER, with_scatter
from hpctrain.redshift.log_grid import to_log_grid
from hpctrain.redshift.minima import Curve, find_minima
from hpctrain.redshift.search import TemplateSearch
from hpctrain.redshift.templates import Template, Templates

FIRST, LAST = 6900, 8200
"""Rest frame: 992 to 3641 AA."""
WAVELENGTH = np.exp(STEP * np.arange(8200, 9140))
MEAN_TRANSMISSION = 0.7


def quasar():
    ln = STEP * np.arange(FIRST, LAST + 1)
    lines = sum(height * np.exp(-0.5 * ((ln - np.log(at)) / 0.012) ** 2) for at, height in ((1549, 0.6), (1909, 0.4)))
    mean = np.exp(-0.5 * (ln - ln.mean())) + lines
    mean[np.exp(ln) < LYMAN_ALPHA_AA] *= MEAN_TRANSMISSION
    tilt = 0.3 * (ln - ln.mean())
    blue = np.where(np.exp(ln) < LYMAN_ALPHA_AA, np.sin(40 * ln), 0.0) * 0.2
    basis = np.stack([mean, tilt, blue])
    return Templates(STEP, STEP, [Template("QSO", FIRST, basis, 1.7, 3.4, 100)], {"made": "by hand"})


def bright_quasars(number=24, snr=40.0):
    """Spectra of the mean quasar, each with absorption of its own in blocks of 1,500 km/s."""
    rng = np.random.default_rng(4)
    redshift = rng.uniform(2.4, 3.0, number)
    template = quasar().classes[0]
    ln = STEP * np.arange(FIRST, LAST + 1)
    rest = np.log(WAVELENGTH)[None] - np.log1p(redshift)[:, None]
    flux = np.stack([np.interp(row, ln, template.basis[0]) for row in rest])
    own = np.repeat(rng.choice([0.25, 1.15], size=(number, len(WAVELENGTH) // 5 + 1)), 5, axis=1)[:, : len(WAVELENGTH)]
    flux = np.where(np.exp(rest) < LYMAN_ALPHA_AA, flux * own / MEAN_TRANSMISSION, flux)
    ivar = np.full_like(flux, (snr / np.median(flux)) ** 2)
    return batch_of(flux + rng.normal(size=flux.shape) / np.sqrt(ivar), ivar, WAVELENGTH), redshift


def test_the_absorption_of_one_sight_line_does_not_move_the_redshift():
    templates = quasar()
    batch, redshift = bright_quasars()
    noisy = with_model_error(batch.clean())
    spectra = to_log_grid(noisy.flux, noisy.ivar, noisy.wavelength_aa, STEP)
    search = TemplateSearch(templates.classes[0], STEP, spectra.first, spectra.num_pixels)
    first_look = find_minima([Curve(search.chi2(spectra), search.first_shift)], STEP)
    found = RedshiftEstimator(templates)(batch)
    before, after = (
        np.abs(z - redshift) / (1 + redshift) for z in (torch.expm1(first_look.log_redshift).numpy(), found["Z"])
    )
    assert np.sqrt(np.mean(after**2)) < 0.6 * np.sqrt(np.mean(before**2))
    bins = found["PZ"].argmax(axis=1)
    edges = RedshiftEstimator(templates).edges
    assert (np.abs(found["Z"] - edges[bins]) < 0.04).all()
    np.testing.assert_allclose(found["DELTACHI2"], (first_look.second_chi2 - first_look.chi2).numpy(), rtol=1e-5)


def test_a_spectrum_without_the_forest_keeps_its_bits():
    templates = quasar()
    batch, _ = bright_quasars(6)
    red = batch.ivar.clone()
    red[:, WAVELENGTH < 5600] = 0  # beyond the line at all of these redshifts
    noisy = with_model_error(batch.replace(ivar=red).clean())
    spectra = to_log_grid(noisy.flux, noisy.ivar, noisy.wavelength_aa, STEP)
    search = TemplateSearch(templates.classes[0], STEP, spectra.first, spectra.num_pixels)
    minima = find_minima([Curve(search.chi2(spectra), search.first_shift)], STEP)
    found = RedshiftEstimator(templates)(batch.replace(ivar=red))
    beyond = torch.exp(minima.log_redshift).numpy() * LYMAN_ALPHA_AA < 5600
    np.testing.assert_array_equal(found["Z"][beyond], torch.expm1(minima.log_redshift).numpy()[beyond])
    assert beyond.any()


def test_the_scatter_of_the_forest_is_a_share_of_the_continuum_beside_it():
    flux, ivar = np.full((1, 940), 2.0), np.full((1, 940), 100.0)
    batch = batch_of(flux, ivar, WAVELENGTH)
    rest = torch.from_numpy(WAVELENGTH / 3.6)[None]
    in_forest = rest < LYMAN_ALPHA_AA
    found = with_scatter(batch, rest, in_forest)
    expected = 1 / (1 / 100 + (2.0 * SCATTER) ** 2)
    np.testing.assert_allclose(found[in_forest], expected, rtol=1e-6)
    assert (found[~in_forest] == 100.0).all()
