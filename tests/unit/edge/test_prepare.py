"""A device without torch prepares spectra and reads the network's answer as the trainer would."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpctrain.edge.prepare import Preparation
from hpctrain.families.blocks.spectra import bin_channels
from hpctrain.families.spectral_vae.catalogue import NO_DATA, OUTSIDE, REJECTED
from hpctrain.families.spectral_vae.encoder import NUM_BINS
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.transform import normalise

N, L = 40, 500
WAVELENGTH = np.linspace(3600.0, 9824.0, L)
MASKED, NOT_FINITE, FAINT, NO_REDSHIFT, TOO_FAR = range(5)


@pytest.fixture(scope="module")
def model():
    facts = SpectraFacts(L, (float(WAVELENGTH[0]), float(WAVELENGTH[-1])), 0.0, 4.0, float(WAVELENGTH[L // 2]))
    section = SpectralVAESection(
        latent_size=3,
        encoder_channels=[4, 8],
        encoder_kernels=[5, 5],
        encoder_hidden=[8],
        decoder_hidden=[8],
        rest_wavelength_aa=(1500.0, 9000.0),
    )
    torch.manual_seed(0)
    return SpectralVAE(section, facts).eval()


@pytest.fixture(scope="module")
def preparation(model):
    windows = tuple((low, high) for low, high in NormaliseSection().windows_aa)
    grid = model.grid
    return Preparation(windows, 2.0, grid.log_start, grid.log_step, grid.num_pixels, NUM_BINS)


@pytest.fixture(scope="module")
def spectra():
    rng = np.random.default_rng(1)
    flux = rng.normal(3.0, 1.0, (N, L)).astype("f4")
    ivar = rng.uniform(0.0, 2.0, (N, L)).astype("f4")
    redshift = rng.uniform(0.0, 4.0, N).astype("f4")
    ivar[:, 100:140] = 0
    ivar[MASKED] = 0
    flux[NOT_FINITE, ::7], ivar[NOT_FINITE, ::11] = np.nan, -1
    flux[FAINT] = -0.1
    redshift[NO_REDSHIFT] = np.nan
    redshift[TOO_FAR] = 5.7  # all of it is bluer than the rest grid, but a window is there
    return flux, ivar, redshift


def normalised(flux, ivar, redshift, wavelength=WAVELENGTH):
    """The same spectra as the trainer sees them; rows without a redshift come masked out of its reader."""
    known = np.isfinite(redshift)
    batch = SpectraBatch(
        flux=torch.from_numpy(flux),
        ivar=torch.from_numpy(np.where(known[:, None], ivar, 0).astype("f4")),
        wavelength_aa=torch.from_numpy(wavelength.astype("f4")),
        redshift=torch.from_numpy(np.where(known, redshift, 0).astype("f4")),
        target_id=torch.arange(len(flux)),
        row=torch.arange(len(flux)),
    )
    return normalise(batch, NormaliseSection())


@pytest.mark.parametrize("has_own_grids", [False, True], ids=["one grid", "a grid for each"])
def test_spectra_are_prepared_as_the_trainer_prepares_them(preparation, model, spectra, has_own_grids):
    flux, ivar, redshift = spectra
    wavelength = WAVELENGTH + np.linspace(0, 3, N)[:, None] if has_own_grids else WAVELENGTH
    batch = normalised(flux, ivar, redshift, wavelength)
    prepared = preparation(flux, ivar, wavelength, redshift)
    assert 0 < (prepared.window < 0).sum() < N / 2
    np.testing.assert_array_equal(prepared.window, batch.window)
    np.testing.assert_allclose(prepared.norm, batch.norm, rtol=1e-6)
    for name in ("flux", "ivar", "redshift"):
        np.testing.assert_allclose(prepared.feeds[name], getattr(batch, name), rtol=1e-6)
    position = model.grid.position(batch.wavelength_aa, batch.redshift)
    np.testing.assert_allclose(prepared.position, position, atol=1e-9)
    visible = batch.ivar > 0
    excess, weight = torch.where(visible, batch.flux - 1, 0), torch.where(visible, batch.ivar, 0)
    bins = model.grid.bin_spectra(excess, weight, batch.wavelength_aa, batch.redshift, NUM_BINS)
    np.testing.assert_allclose(prepared.feeds["bins"], bin_channels(*bins), atol=1e-5)


def test_places_on_the_rest_grid_are_those_of_the_trainer(preparation, model, spectra):
    batch, prepared = normalised(*spectra), preparation(*spectra[:2], WAVELENGTH, spectra[2])
    position = model.grid.position(batch.wavelength_aa, batch.redshift)
    index, fraction = model.grid.place(position)
    covered = model.grid.covers(position).numpy()
    assert 0 < covered.mean() < 1
    pixel = prepared.feeds["pixel"]
    np.testing.assert_array_equal(pixel >= 0, covered)
    whole = pixel + prepared.feeds["fraction"].astype("f8")
    np.testing.assert_allclose(whole[covered], (index + fraction).numpy()[covered], atol=1e-6)
    np.testing.assert_array_equal(pixel[covered], pixel[covered].round())
    assert pixel.max() <= model.grid.num_pixels - 2


def test_the_answer_is_read_as_the_trainer_reads_it(preparation, model, spectra):
    flux, ivar, redshift = spectra
    batch, prepared = normalised(*spectra), preparation(flux, ivar, WAVELENGTH, redshift)
    with torch.no_grad():
        latents, expected, covered = model.describe(batch)
        rest = model.decoder(latents).numpy()
    reconstruction, here = preparation.reconstruct(prepared, rest)
    np.testing.assert_array_equal(here, covered)
    np.testing.assert_allclose(reconstruction, expected, rtol=1e-5, atol=1e-6)
    table = preparation.catalogue(prepared, {"latents": latents.numpy(), "rest_flux": rest})
    chi2 = reduced_chi2(batch.flux, expected, batch.ivar, covered).numpy()
    encoded = table["STATUS"] == 0
    assert encoded.sum() > N / 2
    np.testing.assert_allclose(table["RECON_MSE"][encoded], chi2[encoded], rtol=1e-5)
    np.testing.assert_array_equal(table["NUM_PIXELS"][encoded], ((batch.ivar > 0) & covered).sum(1)[encoded])


def test_each_spectrum_without_latents_says_why(preparation, spectra):
    flux, ivar, redshift = spectra
    prepared = preparation(flux, ivar, WAVELENGTH, redshift)
    outputs = {"latents": np.ones((N, 3), "f4"), "rest_flux": np.ones((N, preparation.num_rest_pixels), "f4")}
    table = preparation.catalogue(prepared, outputs)
    status = table["STATUS"]
    assert (status[MASKED], status[NO_REDSHIFT], status[FAINT]) == (NO_DATA, NO_DATA, REJECTED)
    assert status[TOO_FAR] in (OUTSIDE, REJECTED)
    unused = status != 0
    assert np.isnan(table["LATENT_VEC"][unused]).all()
    assert np.isnan(table["RECON_MSE"][unused]).all()
    assert np.isfinite(table["LATENT_VEC"][~unused]).all()


def test_input_arrays_are_left_as_they_are(preparation, spectra):
    copies = [array.copy() for array in spectra]
    preparation(copies[0], copies[1], WAVELENGTH, copies[2])
    for copy, original in zip(copies, spectra, strict=True):
        np.testing.assert_array_equal(copy, original)


def test_it_survives_json(preparation):
    assert Preparation.from_json(preparation.to_json()) == preparation
