"""Where a model fits and where it does not: sums of the residuals, and the figures of the report."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpctrain.families.held_out import HeldOut
from hpctrain.families.result_files import UnusableResultsError
from hpctrain.families.spectral_vae.fit_drawing import observed_figure, rest_figure, trend_figure
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.residuals import residual_sums
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.spectral_vae.shown_results import read_results
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import NormaliseSection, SpectraSection
from hpctrain.kinds.spectra.transform import normalise

ROWS = np.arange(0, 50, dtype=np.int64)


@pytest.fixture(scope="module")
def found(simulated_file):
    """The network, the prepared spectra, and the sums of their residuals."""
    samples = open_spectra(SpectraSection(files=[str(simulated_file)]))
    torch.manual_seed(0)
    model = SpectralVAE(SpectralVAESection(latent_size=3), SpectraFacts.from_spectra(samples, ROWS)).eval()
    done = []

    def prepare(batch):
        return normalise(batch, NormaliseSection())

    held_out = HeldOut(samples, ROWS, prepare, 16, torch.device("cpu"), done.append)
    sums = residual_sums(model, held_out)
    assert done == [16, 32, 48, 50]
    return model, prepare(samples.read(ROWS)), sums


def test_the_sums_are_those_of_all_valid_pixels(found):
    model, batch, sums = found
    with torch.no_grad():
        reconstruction, covered = model.reconstruct(batch)
    valid = (covered & (batch.ivar > 0)).numpy()
    pull = ((batch.flux - reconstruction) * batch.ivar.sqrt()).double().numpy()
    assert sums["num_spectra"] == valid.any(axis=1).sum()
    for axis in ("observed", "rest"):
        assert sums[f"{axis}_count"].sum() == pytest.approx(valid.sum(), abs=len(ROWS))  # but the edges of the grid
        assert sums[f"{axis}_chi2"].sum() == pytest.approx((pull[valid] ** 2).sum(), rel=0.01)
    wavelength_aa = np.broadcast_to(batch.wavelength_aa.numpy(), pull.shape)
    low, high = sums["observed_edges_aa"][100:102]
    here = valid & (wavelength_aa >= low) & (wavelength_aa < high)
    assert sums["observed_count"][100] == here.sum() > 0
    assert sums["observed_pull"][100] == pytest.approx(pull[here].sum(), rel=1e-4)
    rest = wavelength_aa / (1 + batch.redshift.numpy()[:, None])
    low, high = sums["rest_edges_aa"][240:242]
    here = valid & (rest >= low) & (rest < high)
    assert sums["rest_chi2"][240] == pytest.approx((pull[here] ** 2).sum(), rel=1e-2)


def test_both_wavelengths_are_drawn_with_lines_in_the_rest_frame(found):
    _, _, sums = found
    assert "observed wavelength" in observed_figure(sums)
    drawn = rest_figure(sums)
    assert "rest-frame wavelength" in drawn
    assert "Hβ" in drawn


def test_without_enough_pixels_nothing_is_drawn(found):
    _, _, sums = found
    empty = {**sums, "observed_count": sums["observed_count"] * 0, "rest_count": sums["rest_count"] * 0}
    assert observed_figure(empty) == rest_figure(empty) == ""


@pytest.mark.parametrize(("log", "drawn"), [(False, True), (True, False)])
def test_a_trend_needs_twenty_spectra_that_can_be_drawn(log, drawn):
    values = np.concatenate([np.linspace(-1.0, 0.0, 15), np.linspace(0.1, 2.0, 15)])
    chi2 = np.linspace(0.9, 1.5, 30)
    assert bool(trend_figure(values, chi2, "S/N", log=log)) is drawn
    assert trend_figure(np.ones(30), chi2, "S/N") == ""
    assert trend_figure(values, np.full(30, np.nan), "S/N") == ""


def test_a_trend_shows_the_median_of_each_bin():
    values = np.linspace(1.0, 10.0, 400)
    html = trend_figure(values, values, "S/N per pixel", log=True)
    assert html.count("<svg") == 2  # on a wide screen, and on a phone
    assert "1: the noise" in html
    assert "median χ²" in html


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rest_pull": None}, "lacks rest_pull"),
        ({"rest_pull": np.zeros(3)}, "is damaged: rest_pull has another shape or type"),
        ({"num_spectra": np.array("many")}, "is damaged: num_spectra has another shape or type"),
    ],
)
def test_damaged_sums_are_refused(found, tmp_path, change, reason):
    arrays = {name: value for name, value in {**found[2], **change}.items() if value is not None}
    np.savez(tmp_path / "residuals.npz", **arrays)
    with pytest.raises(UnusableResultsError, match=reason):
        read_results(tmp_path / "residuals.npz")
