"""Resampling: flux is conserved, the variance is right, masks stay masks."""

from __future__ import annotations

import numpy as np
import pytest
import spectres

from hpctrain.errors import DataError
from hpctrain.ingest.grid import parse_grid
from hpctrain.kinds.spectra.grids import desi_grid, sdss_grid
from hpctrain.preprocess.grid import find_offset, pixel_edges, require_grid
from hpctrain.preprocess.resample import Resampler, UpsamplingWarning, overlap_matrix, resample_spectra

WAVELENGTH = 4000 + 0.8 * np.arange(2000)
GRIDS = {
    "log": 10 ** np.arange(np.log10(4010), np.log10(5580), 1e-4),
    "coarse": np.arange(4010, 5580, 2.5),
    "fine": np.arange(4010, 5580, 0.4),
    "half_pixel": WAVELENGTH[10:-10] + 0.4,
}


def noisy(num_spectra: int = 1, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a line spectrum and an ivar that varies, float64."""
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.2, 5, (num_spectra, len(WAVELENGTH)))
    truth = 5 + 20 * np.exp(-0.5 * ((WAVELENGTH - 4700) / 3) ** 2)
    return truth + rng.normal(size=ivar.shape) / np.sqrt(ivar), ivar


@pytest.mark.parametrize("name", GRIDS)
def test_flux_and_variance_equal_spectres(name: str) -> None:
    flux, ivar = noisy()
    ours, our_ivar = Resampler(WAVELENGTH, GRIDS[name])(flux, ivar)
    theirs, error = spectres.spectres(GRIDS[name], WAVELENGTH, flux[0], spec_errs=ivar[0] ** -0.5, verbose=False)
    np.testing.assert_allclose(ours[0], theirs, rtol=1e-10)
    np.testing.assert_allclose(our_ivar[0], error**-2, rtol=1e-10)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("convention", ["per_pixel", "conserve"])
def test_integral_of_the_flux_is_conserved(name: str, convention: str) -> None:
    flux, ivar = noisy()
    ours, _ = Resampler(WAVELENGTH, GRIDS[name], convention)(flux, ivar)
    edges_in, edges_out = pixel_edges(WAVELENGTH), pixel_edges(GRIDS[name])
    cumulative = np.concatenate([[0], np.cumsum(flux[0] * np.diff(edges_in))])
    expected = np.interp(edges_out[-1], edges_in, cumulative) - np.interp(edges_out[0], edges_in, cumulative)
    assert np.sum(ours[0] * np.diff(edges_out)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", GRIDS)
def test_pulls_of_per_pixel_ivar_have_unit_width(name: str) -> None:
    num_draws = 400
    rng = np.random.default_rng(7)
    ivar = np.broadcast_to(rng.uniform(0.2, 5, len(WAVELENGTH)), (num_draws, len(WAVELENGTH)))
    noise = rng.normal(size=ivar.shape) / np.sqrt(ivar)
    flux, ivar_out = Resampler(WAVELENGTH, GRIDS[name])(noise, ivar)
    assert 0.97 < np.std(flux * np.sqrt(ivar_out)) < 1.03


def test_pulls_are_right_beside_masked_pixels_too() -> None:
    rng = np.random.default_rng(8)
    ivar = np.where(rng.random((400, len(WAVELENGTH))) < 0.3, 0.0, 1.7)
    noise = np.where(ivar > 0, rng.normal(size=ivar.shape) / np.sqrt(1.7), 1e30)
    flux, ivar_out = Resampler(WAVELENGTH, GRIDS["coarse"])(noise, ivar)
    assert 0.97 < np.std((flux * np.sqrt(ivar_out))[ivar_out > 0]) < 1.03


@pytest.mark.parametrize("name", GRIDS)
def test_conserve_keeps_the_sum_of_ivar_and_equals_the_desispec_formula(name: str) -> None:
    flux, ivar = noisy()
    grid = GRIDS[name]
    _, ivar_out = Resampler(WAVELENGTH, grid, "conserve")(flux, ivar)
    width_in, width_out = np.diff(pixel_edges(WAVELENGTH)), np.diff(pixel_edges(grid))
    density = spectres.spectres(grid, WAVELENGTH, ivar[0] / width_in, verbose=False)
    np.testing.assert_allclose(ivar_out[0], density * width_out, rtol=1e-10)
    assert ivar_out.sum() == pytest.approx(ivar[0, 13:-24].sum(), rel=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_grid_gives_the_input_back_bit_for_bit(dtype: type) -> None:
    flux, ivar = (values.astype(dtype) for values in noisy())
    flux[0, 5], ivar[0, 5] = np.nan, 0
    flux_out, ivar_out = Resampler(WAVELENGTH, WAVELENGTH)(flux, ivar)
    assert flux_out.tobytes() == flux.tobytes()
    assert ivar_out.tobytes() == ivar.tobytes()
    assert flux_out.dtype == dtype


def test_a_grid_on_the_same_lattice_is_shifted_without_touching_a_bit() -> None:
    loglam = (3.5600 + 1e-4 * np.arange(4000)).astype(np.float32).astype(np.float64)
    flux = np.arange(4000, dtype=np.float32)[None]
    resampler = Resampler(10**loglam, sdss_grid())
    flux_out, ivar_out = resampler(flux, np.ones_like(flux))
    first = int(np.flatnonzero(ivar_out[0])[0])
    assert np.array_equal(flux_out[0, first : first + 4000], flux[0])
    assert ivar_out.sum() == 4000
    assert resampler.covers().sum() == 4000


def test_an_input_that_reaches_beyond_the_output_is_cut() -> None:
    flux = np.arange(len(WAVELENGTH), dtype=np.float64)[None]
    flux_out, _ = Resampler(WAVELENGTH, WAVELENGTH[100:300])(flux, np.ones_like(flux))
    assert np.array_equal(flux_out[0], flux[0, 100:300])


def test_a_shift_of_a_fiftieth_of_a_pixel_is_not_taken_for_the_same_lattice() -> None:
    assert find_offset(WAVELENGTH + 0.8 * 0.02, WAVELENGTH) is None
    assert find_offset(WAVELENGTH + 0.8 * 0.005, WAVELENGTH) == 0


def test_masked_pixels_never_leak_and_half_covered_output_pixels_are_masked() -> None:
    wavelength = 1000.0 + np.arange(12)
    flux, ivar = np.full((1, 12), 3.0), np.ones((1, 12))
    # Output pixels of four: one input pixel of the first masked, three of the second, two of the third.
    for pixel in (1, 4, 5, 6, 8, 9):
        flux[0, pixel], ivar[0, pixel] = (np.nan if pixel % 2 else 1e30), 0
    flux_out, ivar_out = Resampler(wavelength, np.array([1001.5, 1005.5, 1009.5]))(flux, ivar)
    np.testing.assert_allclose(flux_out[0], 3.0)
    np.testing.assert_allclose(ivar_out[0], [3.0, 0.0, 2.0])


def test_output_pixels_outside_the_input_have_no_weight() -> None:
    flux, ivar = noisy()
    flux_out, ivar_out = Resampler(WAVELENGTH, np.arange(3000, 7000, 2.5))(flux, ivar)
    outside = np.abs(np.arange(3000, 7000, 2.5) - 4799.6) > 802
    assert not ivar_out[0, outside].any()
    assert not flux_out[0, outside].any()
    flux_out, ivar_out = Resampler(WAVELENGTH, np.arange(9000, 9100, 2.5))(flux, ivar)
    assert not ivar_out.any()


def test_rows_of_the_overlap_matrix_sum_to_the_output_widths() -> None:
    matrix = overlap_matrix(WAVELENGTH, GRIDS["log"])
    np.testing.assert_allclose(matrix.sum(axis=1), np.diff(pixel_edges(GRIDS["log"])), rtol=1e-10)
    assert matrix.nnz < 4 * matrix.shape[0]


def test_upsampling_warns_and_downsampling_does_not() -> None:
    flux, ivar = noisy()
    with pytest.warns(UpsamplingWarning, match=r"2\.0x narrower"):
        resample_spectra(WAVELENGTH, flux[0], ivar[0], GRIDS["fine"])
    one, _ = resample_spectra(WAVELENGTH, flux[0], ivar[0], GRIDS["coarse"])
    assert one.shape == GRIDS["coarse"].shape


@pytest.mark.parametrize(
    ("wavelength", "message"),
    [
        ([4000.0, 4001.0, np.nan], "nan at pixel 2"),
        ([4000.0, 4002.0, 4001.0], "not increasing at pixel 2"),
        ([4000.0, 4000.0], "not increasing at pixel 1"),
        ([-1.0, 4000.0], "-1.0 at pixel 0"),
        ([4000.0], "needs one dimension and 2 pixels"),
        ([[4000.0, 4001.0]], "shape"),
    ],
)
def test_a_wavelength_that_is_no_grid_is_refused(wavelength: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_grid(np.array(wavelength))


def test_grids_are_made_from_their_text() -> None:
    assert len(parse_grid("desi")) == len(desi_grid()) == 7781
    assert parse_grid("desi")[-1] == 9824.0
    assert len(parse_grid("sdss")) == 4681
    np.testing.assert_allclose(parse_grid("linear:4000:4002:0.5"), [4000, 4000.5, 4001, 4001.5, 4002])
    np.testing.assert_allclose(parse_grid("log:1000:10000:0.5"), [1000, 10**3.5, 10000])
    assert parse_grid("auto") == "auto"


@pytest.mark.parametrize(
    "text", ["dezi", "log:1:2", "linear:5000:4000:1", "linear:1:2:0", "log:0:10:1", "linear:1:2:x", "linear:1:1e6:1e-6"]
)
def test_a_grid_that_cannot_be_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(DataError, match=f"grid '{text}'"):
        parse_grid(text)
