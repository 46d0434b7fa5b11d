"""Spectra that cannot be right are recognised by a small sample; good ones, real or simulated, raise no doubt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.cli import main
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.plausible import inspect_spectra, judge_noise
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.profile.inspection import ERROR, NOTE, WARNING, Inspection
from hpctrain.samples.probe import NUM_INSPECTED, choose_sample

Change = Callable[[np.ndarray], np.ndarray]


def change(path: Path, out: Path, **changes: Change) -> Path:
    """Copy the columns of a file that are needed, some of them changed."""
    with h5py.File(path) as source, h5py.File(out, "w") as file:
        for name in ("flux", "ivar", "wavelength", "target_id", "redshift"):
            file[name] = changes.get(name, lambda values: values)(source[name][:])
    return out


def inspect(path: Path, **options: object) -> Inspection:
    data = SpectraSection(files=[str(path)], **options)
    spectra = open_spectra(data)
    try:
        return inspect_spectra(spectra, np.arange(len(spectra)), data)
    finally:
        spectra.close()


def codes(found: Inspection, *severities: str) -> set[str]:
    return {remark.code for remark in found.remarks if remark.severity in severities}


def sigma_of(ivar: np.ndarray) -> np.ndarray:
    return np.where(ivar > 0, np.where(ivar > 0, ivar, 1) ** -0.5, 0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated as DESI sees quasars and galaxies, 1,000 pixels."""
    path = tmp_path_factory.mktemp("good") / "good.h5"
    assert main(["simulate", "--num-spectra", "200", "--num-pixels", "1000", "--out", str(path)]) == 0
    return path


def test_simulated_spectra_raise_no_doubt(good: Path) -> None:
    found = inspect(good)
    assert not codes(found, ERROR, WARNING)
    assert found.num_inspected == 200
    assert found.num_rejected < 20


@pytest.mark.parametrize("survey", ["sdss", "sdss on the DESI grid", "desi", "multimodal sdss", "multimodal desi"])
def test_real_spectra_raise_no_doubt(shared_data: Path, tmp_path: Path, survey: str) -> None:
    sources = {
        "sdss": ["sdss", str(shared_data / "sdss_spec")],
        "sdss on the DESI grid": ["sdss", str(shared_data / "sdss_spec"), "--grid", "desi"],
        "desi": ["desi", str(shared_data / "desi_coadd")],
        "multimodal sdss": ["multimodal", str(shared_data / "sdss_spec_mmu")],
        "multimodal desi": ["multimodal", str(shared_data / "desi_coadd" / "mmu_style")],
    }
    path = tmp_path / "real.h5"
    assert main(["ingest", *sources[survey], "--out", str(path), "--limit", "120"]) == 0
    with h5py.File(path) as file:
        noise = judge_noise(file["flux"][:], file["ivar"][:])
    assert noise is not None
    assert noise.looks_like == "ivar"
    assert abs(noise.departure_dex) < 0.3
    assert codes(inspect(path), ERROR, WARNING) <= {"few-redshifts"}


@pytest.mark.parametrize(
    ("changes", "severity", "code", "words"),
    [
        ({"flux": lambda v: v * 1e-17}, ERROR, "all-rejected", ["1e17 times smaller", "multiply the flux by 1e17"]),
        ({"flux": lambda v: v * np.float32(1e17)}, ERROR, "other-units", ["1e17 times larger", "divide ivar by 1e34"]),
        ({"flux": lambda v: v * 100}, WARNING, "other-units", ["100 times larger", "divide the flux by 100"]),
        ({"ivar": sigma_of}, ERROR, "sigma-as-ivar", ["sigma", "data.columns.ivar", "** -2.0", "implausible: warn"]),
        ({"ivar": lambda v: sigma_of(v) ** 2}, ERROR, "variance-as-ivar", ["variance", "** -1.0"]),
        ({"wavelength": lambda v: v / 10}, ERROR, "all-rejected", ["360 to", "nanometres", "*= 10`"]),
        ({"redshift": lambda v: v * np.nan}, ERROR, "no-redshift", ["None of the 200", "data.columns.redshift"]),
        ({"redshift": lambda v: np.where(np.arange(200) < 150, -1, v)}, WARNING, "few-redshifts", ["150 of 200"]),
        ({"redshift": lambda v: v + 100}, ERROR, "all-rejected", ["data.normalise.windows_aa", "redshifts from 100"]),
        ({"ivar": lambda v: v * 0}, ERROR, "all-rejected", ["fully masked", "data.columns.mask"]),
    ],
)
def test_what_cannot_be_right_is_named_with_what_to_change(
    good: Path, tmp_path: Path, changes: dict[str, Change], severity: str, code: str, words: list[str]
) -> None:
    found = inspect(change(good, tmp_path / "bad.h5", **changes))
    assert code in codes(found, severity)
    text = next(remark.text for remark in found.remarks if remark.code == code)
    assert all(word in text for word in words), text
    if severity == ERROR:
        with pytest.raises(DataError, match=r"^bad\.h5:"):
            found.raise_errors("bad.h5")


def test_flux_and_ivar_in_one_other_unit_are_as_good(good: Path, tmp_path: Path) -> None:
    path = change(good, tmp_path / "cgs.h5", flux=lambda v: v * 1e-17, ivar=lambda v: v.astype("f8") * 1e34)
    found = inspect(path)
    assert not codes(found, ERROR, WARNING)
    assert found.num_rejected == inspect(good).num_rejected


def test_the_user_may_insist_on_data_that_look_wrong_but_not_on_data_without_weight(good: Path, tmp_path: Path) -> None:
    sigma = change(good, tmp_path / "sigma.h5", ivar=sigma_of)
    assert codes(inspect(sigma, implausible="warn"), WARNING) == {"sigma-as-ivar"}
    empty = change(good, tmp_path / "empty.h5", redshift=lambda v: v * np.nan)
    assert codes(inspect(empty, implausible="warn"), ERROR) == {"no-redshift"}


def test_warnings_stars_and_rejected_spectra_are_counted_with_the_option_that_changes_them(
    good: Path, tmp_path: Path
) -> None:
    path = change(good, tmp_path / "mixed.h5", ivar=lambda v: v * (np.arange(200) >= 40)[:, None])
    with h5py.File(path, "a") as file:
        file["zwarn"] = np.where(np.arange(200) < 30, 4, np.where(np.arange(200) < 50, -1, 0))
        file["spectype"] = np.where(np.arange(200) < 20, b"STAR", b"QSO")
    found = inspect(path)
    assert (found.num_zwarn, found.num_stars, found.num_sky) == (30, 20, 0)
    assert found.num_rejected >= 40
    text = "\n".join(found.texts(NOTE))
    assert "30 of 200 spectra have a redshift warning" in text
    assert "--zwarn good" in text
    assert "20 of 200 spectra are stars" in text
    assert "--spectype" in text
    assert "fully masked" in text


def test_noise_that_neighbouring_pixels_share_is_no_contradiction() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(20, 300))
    flux = 5 + np.repeat(coarse, 5, axis=1)
    noise = judge_noise(flux.astype("f4"), np.ones(flux.shape, "f4"))
    assert noise is not None
    assert abs(noise.departure_dex) < 0.3


def test_spectra_without_noise_or_with_few_pixels_are_not_judged_by_it() -> None:
    flat = np.ones((20, 300), "f4")
    assert judge_noise(flat, flat) is None
    assert judge_noise(np.random.default_rng(1).normal(size=(3, 10)).astype("f4"), flat[:3, :10]) is None


def test_a_sample_is_small_spread_out_and_the_same_each_time() -> None:
    rows = np.arange(1_000_000) * 3
    sample = choose_sample(rows)
    assert len(sample) == NUM_INSPECTED
    assert np.isin(sample, rows).all()
    assert (sample[0], sample[-1]) == (rows[0], rows[-1])
    np.testing.assert_array_equal(sample, choose_sample(rows))
    np.testing.assert_array_equal(choose_sample(rows[:100]), rows[:100])


def test_an_inspection_survives_json(good: Path) -> None:
    found = inspect(good)
    assert Inspection.from_json(found.to_json()) == found
