"""Spectra for models that need no redshift: a normalisation in the observed frame, and rows without a redshift."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from kinds.spectra import tiny_file

from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.kind import KIND
from hpctrain.kinds.spectra.norm import clean, observed_window
from hpctrain.kinds.spectra.section import ObservedNormaliseSection, ObservedSpectraSection, SpectraSection
from hpctrain.kinds.spectra.transform import normalise_observed


@pytest.fixture
def path(tmp_path):
    path = tiny_file(tmp_path / "a.h5", num=20)
    with h5py.File(path, "a") as file:
        file["redshift"][3:] = np.nan
    return path


def section(path, **keys) -> ObservedSpectraSection:
    return ObservedSpectraSection(files=[str(path)], **keys)


def test_a_spectrum_without_redshift_has_weight_only_where_none_is_needed(path):
    rows = np.arange(20)
    needs, needs_not = open_spectra(SpectraSection(files=[str(path)])), open_spectra(section(path))
    assert needs.usable(rows).sum() == 3
    assert needs.read(rows).used.sum() == 3
    assert needs_not.usable(rows).all()
    assert needs_not.read(rows).used.all()
    assert torch.isfinite(needs_not.read(rows).redshift).all()
    assert np.isnan(needs_not.redshift[3:]).all()
    assert needs_not.notes == []


def test_a_file_need_not_have_redshifts_unless_the_profile_names_them(path):
    with h5py.File(path, "a") as file:
        del file["redshift"]
    samples = open_spectra(section(path))
    facts = KIND.facts(samples, np.arange(20))
    assert (facts.redshift_min, facts.redshift_max) == (0.0, 0.0)
    assert KIND.inspect(samples, np.arange(20), section(path)).remarks == []
    with pytest.raises(Exception, match="redshift: is not in the file"):
        open_spectra(section(path, columns={"redshift": "redshift"}))


def test_the_median_of_the_valid_pixels_becomes_one_and_masked_pixels_never_count(path):
    batch = open_spectra(section(path)).read(np.arange(20))
    flux = batch.flux.clone()
    flux[batch.ivar == 0] = 1e6
    found = normalise_observed(batch.replace(flux=flux), ObservedNormaliseSection())
    for row in range(20):
        assert np.median(found.flux[row][found.ivar[row] > 0].numpy()) == pytest.approx(1.0, abs=1e-5)
    assert found.flux[found.ivar == 0].abs().max() == 0
    torch.testing.assert_close(found.ivar, batch.ivar * found.norm[:, None] ** 2)


def test_windows_together_give_the_median(path):
    batch = open_spectra(section(path)).read(np.arange(20))
    windows = ObservedNormaliseSection(windows_aa=[(4000.0, 4500.0), (9000.0, 9500.0)])
    found = normalise_observed(batch, windows)
    wavelength = batch.wavelength_aa.numpy()
    inside = ((wavelength >= 4000) & (wavelength <= 4500)) | ((wavelength >= 9000) & (wavelength <= 9500))
    valid = inside & (batch.ivar[0].numpy() > 0)
    assert float(found.norm[0]) == pytest.approx(np.median(batch.flux[0].numpy()[valid]), rel=1e-5)


def test_spectra_without_signal_are_rejected_and_both_implementations_agree(path):
    batch = open_spectra(section(path)).read(np.arange(20))
    flux = batch.flux.clone()
    flux[4] *= -1
    flux[5] *= 1e-3
    batch = batch.replace(flux=flux)
    normalise = ObservedNormaliseSection(min_snr=2.0)
    found = normalise_observed(batch, normalise)
    assert np.flatnonzero(found.window.numpy() < 0).tolist() == [4, 5]
    assert not found.used[4]
    window, _ = observed_window(*clean(batch.flux.numpy(), batch.ivar.numpy()), batch.wavelength_aa.numpy(), normalise)
    np.testing.assert_array_equal(window, found.window.numpy())


def test_without_normalisation_the_flux_stays_as_it_is(path):
    batch = open_spectra(section(path)).read(np.array([0, 1, -1]))
    found = normalise_observed(batch, ObservedNormaliseSection(by="none"))
    torch.testing.assert_close(found.flux[:2], torch.where(batch.ivar > 0, batch.flux, 0.0)[:2])
    assert found.norm.tolist() == [1.0, 1.0, 1.0]
    assert not found.used[2]


def test_labels_ride_with_the_rows_of_a_batch(path):
    samples = open_spectra(section(path))
    samples.labels = {"slope": samples.column("slope").astype(np.float32), "code": np.arange(20)}
    batch = samples.read(np.array([7, -1, 2])).to("cpu")
    assert batch.labels["code"].tolist() == [7, -1, 2]
    assert torch.isnan(batch.labels["slope"]).tolist() == [False, True, False]
    assert len(batch.everything()) == 8


def test_arrays_in_memory_need_no_redshift_either(path):
    files = open_spectra(section(path))
    batch = files.read(np.arange(20))
    card = {"normalise": section(path).normalise.model_dump(mode="json")}
    arrays = {"flux": batch.flux.numpy(), "ivar": batch.ivar.numpy(), "wavelength": batch.wavelength_aa.numpy()}
    samples = KIND.from_arrays(card, arrays)
    assert samples.usable(np.arange(20)).all()
    torch.testing.assert_close(samples.read(np.arange(20)).ivar, batch.ivar)
    with pytest.raises(Exception, match="redshift: missing"):
        KIND.from_arrays({"normalise": {"windows_aa": [[5300, 5850]]}}, arrays)
