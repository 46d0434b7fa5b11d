"""``hpctrain.load``: the same numbers as ``hpctrain encode``, from files, tables and arrays, in bounded memory."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest
import torch
import yaml
from astropy import units
from astropy.table import MaskedColumn, QTable, Table
from kinds.spectra import write_file

import hpctrain
from hpctrain.cli import main
from hpctrain.errors import CheckpointError, DataError, ProfileError
from hpctrain.families.spectral_vae.catalogue import NO_DATA, OUTSIDE, REJECTED
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import save_model
from hpctrain.kinds.kind import Kind, Words
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import NormaliseSection, SpectraSection

N, L = 25, 200
WAVELENGTH = np.linspace(3600.0, 9824.0, L)
FAINT, NO_FLUX, NO_REDSHIFT, TOO_FAR = 3, 7, 11, 20
NUMBERS = ("LATENT_VEC", "RECON_MSE", "NORM", "WINDOW", "NUM_PIXELS", "STATUS")


def some_spectra(num=N):
    """Spectra with every fault that a reader meets."""
    rng = np.random.default_rng(0)
    flux = rng.normal(10.0, 1.0, (num, L)).astype("f4")
    ivar = np.ones((num, L), "f4")
    redshift = rng.uniform(0.1, 0.6, num).astype("f4")
    flux[FAINT] = rng.normal(-0.5, 1.0, L)
    ivar[NO_FLUX] = 0
    redshift[NO_REDSHIFT] = np.nan
    redshift[TOO_FAR] = 4.5
    flux[0, 5:9], ivar[1, 3], ivar[2, 4], flux[4, 6] = np.nan, -1.0, np.inf, np.inf
    mask = np.zeros((num, L), "u1")
    mask[5, 50:60] = 4
    return {
        "flux": flux,
        "ivar": ivar,
        "mask": mask,
        "wavelength": WAVELENGTH,
        "redshift": redshift,
        "target_id": np.arange(num) + 39_000_000_000_000_000,
    }


@pytest.fixture
def spectra():
    return some_spectra()


@pytest.fixture(scope="module")
def spectra_file(tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("spectra") / "spectra.h5", **some_spectra())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a model that was never trained, as a finished run has it."""
    section = SpectralVAESection(
        latent_size=3,
        encoder_channels=[4, 8],
        encoder_kernels=[5, 5],
        encoder_hidden=[8],
        decoder_hidden=[8],
        rest_wavelength_aa=(2000.0, 6500.0),
    )
    facts = SpectraFacts(L, (float(WAVELENGTH[0]), float(WAVELENGTH[-1])), 0.1, 0.6, float(WAVELENGTH[L // 2]))
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "20260101-000000-aaaa"
    extra = {"name": "tiny", "seed": 5, "step": 12, "normalise": NormaliseSection().model_dump(mode="json")}
    save_model(folder / "model", SpectralVAE(section, facts), section, facts, extra)
    (folder / "job.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def model(run):
    return hpctrain.load(run)


@pytest.fixture(scope="module")
def catalogue(run, spectra_file, tmp_path_factory):
    """What ``hpctrain encode`` writes about these spectra."""
    out = tmp_path_factory.mktemp("out") / "latents.h5"
    assert main(["encode", str(run), str(spectra_file), "--out", str(out), "--batch-size", str(N)]) == 0
    with h5py.File(out, "r") as file:
        return {name: file[name][()] for name in file}


def assert_same(table, catalogue, names=NUMBERS, rows=slice(None)):
    for name in names:
        np.testing.assert_array_equal(table[name], catalogue[name][rows], err_msg=name)
        assert table[name].dtype == catalogue[name].dtype


def test_a_file_gives_the_catalogue_of_encode_with_units_and_reasons(model, spectra_file, catalogue):
    table = model.encode(spectra_file, scores=True)
    assert_same(table, catalogue, (*NUMBERS, "ANOMALY_SCORE", "target_id", "redshift"))
    assert table["STATUS"][[FAINT, NO_FLUX, NO_REDSHIFT, TOO_FAR]].tolist() == [REJECTED, NO_DATA, NO_DATA, OUTSIDE]
    assert table["row"].tolist() == list(range(N))
    assert table["NUM_PIXELS"].unit == units.pix
    assert "0: encoded" in table["STATUS"].description
    assert table.meta["model"] == "tiny"
    assert_same(model.predict(str(spectra_file)), catalogue)


def test_arrays_tables_and_open_sets_give_the_same_numbers_as_the_file(model, spectra, spectra_file, catalogue):
    assert_same(model.encode(**spectra), catalogue)
    assert_same(model.encode(spectra), catalogue)
    table = Table({name: values for name, values in spectra.items() if name != "wavelength"})
    table["wavelength"] = np.tile(WAVELENGTH, (N, 1))
    assert_same(model.encode(table), catalogue)
    assert_same(model.encode(open_spectra(SpectraSection(files=[str(spectra_file)]))), catalogue)


def test_masked_values_and_units_are_understood(model, spectra, catalogue):
    unit = units.Unit("erg / (s cm2 Angstrom)")
    bad = ~np.isfinite(spectra["flux"]) | (spectra["mask"] != 0)
    flux = np.ma.array(np.where(bad, 7.0, spectra["flux"]), mask=bad)
    redshift = np.ma.array(np.where(np.isnan(spectra["redshift"]), 0.3, spectra["redshift"]))
    redshift[NO_REDSHIFT] = np.ma.masked
    del spectra["mask"]
    assert_same(model.encode(**spectra | {"flux": flux, "redshift": redshift}), catalogue)
    table = QTable({"Z": spectra["redshift"], "flux": spectra["flux"] * 1e-17 * unit, "loglam": np.ones((N, L))})
    table["ivar"] = np.where(bad, 0, spectra["ivar"]) * 1e34 * unit**-2
    table["wave"] = np.tile(WAVELENGTH / 10, (N, 1)) * units.nm
    found = model.encode(table, columns={"redshift": "Z", "wavelength": "wave"})
    assert_same(found, catalogue, ("STATUS", "WINDOW", "NUM_PIXELS"))
    np.testing.assert_allclose(found["RECON_MSE"], catalogue["RECON_MSE"], rtol=1e-3)
    assert found["target_id"].tolist() == list(range(N))  # none was given


def test_a_masked_column_of_a_table_is_without_weight(model, spectra, catalogue):
    flux = MaskedColumn(spectra["flux"], mask=spectra["mask"] != 0)
    table = Table({"flux": flux, "ivar": spectra["ivar"], "redshift": spectra["redshift"]})
    table["wavelength"] = np.tile(WAVELENGTH, (N, 1))
    assert_same(model.encode(table), catalogue)


def test_one_spectrum_needs_no_first_axis(model, spectra, catalogue):
    one = model.predict(flux=spectra["flux"][6], ivar=spectra["ivar"][6], wavelength=WAVELENGTH, redshift=0.25)
    assert len(one) == 1
    again = model.predict(
        flux=spectra["flux"][6:7], ivar=spectra["ivar"][6:7], wavelength=WAVELENGTH, redshift=np.array([0.25])
    )
    np.testing.assert_array_equal(one["LATENT_VEC"], again["LATENT_VEC"])


@pytest.mark.parametrize("rows", [slice(2, 9, 3), [8, 2, 8], np.arange(N) % 5 == 0])
def test_rows_choose_spectra_in_their_order(model, spectra_file, spectra, catalogue, rows):
    for table in (model.encode(spectra_file, rows=rows), model.encode(spectra, rows=rows)):
        assert table["row"].tolist() == np.arange(N)[rows].tolist()
        assert table["target_id"].tolist() == catalogue["target_id"][rows].tolist()
        assert_same(table, catalogue, ("STATUS", "WINDOW"), rows)
        np.testing.assert_allclose(table["RECON_MSE"], catalogue["RECON_MSE"][rows], rtol=1e-4)


def test_a_reconstruction_is_in_the_unit_of_the_input_and_blank_where_nothing_is_known(model, spectra, spectra_file):
    shown = model.reconstruct(spectra_file, rows=slice(0, 12))
    assert shown["flux"].shape == shown["reconstruction"].shape == shown["wavelength_aa"].shape == (12, L)
    bad = ~np.isfinite(spectra["flux"][:12]) | ~(spectra["ivar"][:12] > 0) | ~np.isfinite(spectra["ivar"][:12])
    bad |= spectra["mask"][:12] != 0
    bad[NO_REDSHIFT] = True
    np.testing.assert_array_equal(np.isnan(shown["flux"]), bad)
    np.testing.assert_array_equal(shown["flux"][~bad], spectra["flux"][:12][~bad])
    assert np.isnan(shown["reconstruction"][[FAINT, NO_FLUX, NO_REDSHIFT]]).all()
    good = np.isfinite(shown["reconstruction"]) & ~bad
    chi2 = np.where(good, (shown["flux"] - shown["reconstruction"]) ** 2 * shown["ivar"], 0).sum(1) / good.sum(1).clip(
        1
    )
    used = ~np.isnan(shown["norm"]) & (good.sum(1) > 0)
    np.testing.assert_allclose(chi2[used], shown["chi2"][used], rtol=1e-3)
    arrays = model.reconstruct(**spectra, rows=slice(0, 12))
    np.testing.assert_array_equal(arrays["reconstruction"], shown["reconstruction"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(model, tmp_path):
    def peak_bytes(num):
        path = write_file(tmp_path / f"{num}.h5", np.full((num, L), 10, "f4"), redshift=np.full(num, 0.3))
        tracemalloc.start()
        model.predict(path, batch_size=32)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = peak_bytes(64), peak_bytes(512)
    assert large - small < 0.3 * (512 - 64) * L * 8  # of the pixels; each row of the table takes some 50 bytes


def test_the_columns_of_the_run_are_those_of_its_profile(run, model, spectra, tmp_path, catalogue):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name, values in spectra.items():
            file[f"spectrum_{name}"] = values
    names = {name: f"spectrum_{name}" for name in spectra}
    assert_same(model.encode(tmp_path / "other.h5", columns=names), catalogue)
    profile = {"name": "tiny", "data": {"files": ["nowhere.h5"], "columns": names}}
    (run / "profile.yaml").write_text(yaml.safe_dump(profile))
    try:
        assert_same(hpctrain.load(run).encode(tmp_path / "other.h5"), catalogue)
    finally:
        (run / "profile.yaml").unlink()


def test_a_model_is_found_by_name_and_says_what_it_is(run, monkeypatch):
    for path in (run / "model", run / "model" / "model.safetensors", str(run)):
        assert hpctrain.load(path).name == "tiny"
    monkeypatch.chdir(run.parents[2])
    model = hpctrain.load("tiny", runs_dir=run.parents[1])
    assert (model.family, model.kind, model.device, model.card["step"]) == ("spectral_vae", "spectra", "cpu", 12)
    assert model.facts.num_pixels == L
    assert "family=spectral_vae" in repr(model)
    assert "<td" in model._repr_html_()


def test_problems_of_the_data_are_named_all_at_once(model, spectra):
    flux = spectra["flux"]
    cases = [
        ({"flux": flux, "ivar": flux}, "wavelength: missing; there is flux, ivar\nredshift: missing"),
        (spectra | {"ivar": flux[:3], "redshift": flux}, "ivar: has shape (3, 200), but flux (25, 200) asks for"),
        ({"flux": flux, "wave": WAVELENGTH, "ivar": flux, "redshift": 1.0}, "columns={'wavelength': 'wave'}"),
        (spectra | {"flux": np.full((N, L), "a")}, "flux: holds <U1, not numbers"),
        (spectra | {"wavelength": WAVELENGTH[::-1]}, "wavelength: runs backwards after pixel 0"),
        (spectra | {"wavelength": np.log10(WAVELENGTH)}, "this looks like log10 of it"),
        (spectra | {"wavelength": WAVELENGTH * 1.01}, "the spectra do not fit the model: first pixel at 3636.00 AA"),
        (spectra | {"flux": flux[:, :9], "ivar": flux[:, :9]}, "wavelength: has shape (200,)"),
        (spectra | {"flux": units.Quantity(flux, "m")}, "flux: its unit is 'm', which cannot be converted"),
        (spectra | {"flux": flux * units.Unit("erg/(s cm2 AA)")}, "give both a unit, or neither"),
        (spectra | {"target_id": np.full(N, 0.5)}, "target_id: holds fractions"),
    ]
    for given, message in cases:
        with pytest.raises(DataError) as error:
            model.predict(given)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no data were given; give the names of files"),
        ({"data": "x.h5", "flux": 1}, "not both"),
        ({"data": 7}, "int cannot be read as spectra"),
        ({"maks": 1, "flux": 1}, "'maks' is no argument here; did you mean 'mask'?"),
        ({"data": "no-such-file.h5"}, "no-such-file.h5: no such file"),
        ({"data": "no-such-file.h5", "columns": {"fluxx": "a"}}, "did you mean 'flux'?"),
        ({"data": {"flux": 1}, "columns": {"redshift": "Z"}}, "columns: there is no 'Z'; there is flux"),
    ],
)
def test_a_mistake_in_a_call_is_one_clear_error(model, arguments, message):
    with pytest.raises(DataError) as error:
        model.predict(**arguments)
    assert message in str(error.value)


def test_rows_that_are_not_there_are_an_error_and_a_dataset_is_not_read_whole(model, spectra, spectra_file):
    with pytest.raises(DataError, match="there are 25 rows, numbered from 0"):
        model.predict(spectra, rows=[N])
    with pytest.raises(DataError, match="batch_size: found 0"):
        model.predict(spectra, batch_size=0)
    with h5py.File(spectra_file, "r") as file, pytest.raises(DataError, match="give the name of the file"):
        model.predict(file)


def test_a_model_that_is_not_there_is_named(tmp_path, run):
    with pytest.raises(CheckpointError, match="neither a finished model"):
        hpctrain.load(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint 'step-00000007'"):
        hpctrain.load(run, checkpoint=7)
    with pytest.raises(ProfileError, match="device: found 'gpu'; must be one of auto, cpu, cuda"):
        hpctrain.load(run, "gpu")


def test_a_kind_without_arrays_says_that_it_reads_files():
    class Pictures(Kind):
        words = Words("picture", "pictures")

    with pytest.raises(DataError, match="pictures are read from files only"):
        Pictures().from_arrays({}, {"image": np.ones(3)})
