"""``hpctrain encode``: one row per spectrum, also for those that cannot be encoded."""

import json

import h5py
import numpy as np
import pytest
import torch
from kinds.spectra import write_file

from hpctrain.cli import main
from hpctrain.errors import DataError
from hpctrain.families.spectral_vae.anomaly import fit_reference, isolation_scores
from hpctrain.families.spectral_vae.catalogue import ENCODED, NO_DATA, OUTSIDE, REJECTED
from hpctrain.families.spectral_vae.encode import encode_to_file
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import load_model, save_model
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import NormaliseSection, SpectraSection
from hpctrain.kinds.spectra.snr import signal_to_noise
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import VALIDATION, assign_split

N, L = 25, 200
WAVELENGTH = np.linspace(3600.0, 9824.0, L)
SECTION = SpectralVAESection(
    latent_size=3,
    encoder_channels=[4, 8],
    encoder_kernels=[5, 5],
    encoder_hidden=[8],
    decoder_hidden=[8],
    rest_wavelength_aa=(2000.0, 6500.0),
)
FAINT, NO_FLUX, NO_REDSHIFT, TOO_FAR = 3, 7, 11, 20


def write_spectra(path, num=N, wavelength=WAVELENGTH, seed=0):
    rng = np.random.default_rng(seed)
    redshift = rng.uniform(0.1, 0.6, num)
    flux = rng.normal(10.0, 1.0, (num, len(wavelength)))
    ivar = np.ones((num, len(wavelength)))
    flux[FAINT] = rng.normal(0.0, 1.0, len(wavelength)) - 0.5
    ivar[NO_FLUX] = 0
    redshift[NO_REDSHIFT] = np.nan
    redshift[TOO_FAR] = 4.5  # rest frame ends at 1786 AA, below the model's range
    ids = np.arange(num, dtype="i8") + 39_000_000_000_000_000
    columns = {"wavelength": wavelength, "redshift": redshift.astype("f4"), "target_id": ids}
    write_file(path, flux.astype("f4"), ivar=ivar.astype("f4"), **columns)
    with h5py.File(path, "a") as file:
        file["ra"] = rng.uniform(0, 360, num)
        file["ra"].attrs["unit"] = "deg"
        file["spectype"] = np.array(["QSO", "GALAXY"] * num, dtype=h5py.string_dtype())[:num]
        file["resolution"] = np.ones((num, 11, 3))  # not one value per spectrum
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a model, as a finished run has it."""
    folder = tmp_path_factory.mktemp("run")
    facts = SpectraFacts(L, (float(WAVELENGTH[0]), float(WAVELENGTH[-1])), 0.1, 0.6, float(WAVELENGTH[L // 2]))
    torch.manual_seed(0)
    model = SpectralVAE(SECTION, facts)
    extra = {
        "name": "tiny",
        "normalise": NormaliseSection().model_dump(mode="json"),
        "split": SplitSection(validation=0.4).model_dump(mode="json"),
        "seed": 5,
        "step": 12,
    }
    save_model(folder / "model", model, SECTION, facts, extra)
    return folder


@pytest.fixture
def spectra(tmp_path):
    return write_spectra(tmp_path / "spectra.h5")


def read(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in file}, dict(file.attrs)


def test_every_spectrum_has_a_row_and_those_without_latents_say_why(run, spectra, tmp_path, capsys):
    assert main(["encode", str(run), str(spectra), "--out", str(tmp_path / "out.h5"), "--batch-size", "7"]) == 0
    table, attributes = read(tmp_path / "out.h5")
    status = np.full(N, ENCODED)
    status[[FAINT, NO_FLUX, NO_REDSHIFT, TOO_FAR]] = REJECTED, NO_DATA, NO_DATA, OUTSIDE
    assert table["STATUS"].tolist() == status.tolist()
    used = status == ENCODED
    assert table["LATENT_VEC"].dtype == np.float16
    assert table["LATENT_VEC"].shape == (N, 3)
    for name in ("LATENT_VEC", "RECON_MSE", "ANOMALY_SCORE"):
        assert np.array_equal(np.isfinite(table[name]).reshape(N, -1).all(axis=1), used), name
    assert table["target_id"][0] == 39_000_000_000_000_000
    assert attributes["model_step"] == 12
    assert attributes["source_files"].tolist() == [str(spectra)]
    printed = capsys.readouterr().out
    assert "25 objects" in printed
    assert "       21  encoded" in printed
    assert "        1  no normalisation window with enough signal" in printed


def test_numbers_are_those_of_the_model(run, spectra, tmp_path):
    model, card = load_model(run)
    data = open_spectra(SpectraSection(files=[str(spectra)]))
    encode_to_file(model, card, data, None, tmp_path / "out.h5", batch_size=7)
    table, _ = read(tmp_path / "out.h5")
    batch = normalise(data.read(np.arange(N)), NormaliseSection())
    with torch.no_grad():
        mean, _ = model.encode(batch)
        reconstruction, covered = model.reconstruct(batch)
    used = table["STATUS"] == ENCODED
    np.testing.assert_allclose(table["LATENT_VEC"][used], mean[used].numpy(), rtol=2e-3, atol=2e-3)
    chi2 = reduced_chi2(batch.flux, reconstruction, batch.ivar, covered).numpy()
    np.testing.assert_allclose(table["RECON_MSE"][used], chi2[used], rtol=1e-4)
    latents = table["LATENT_VEC"].astype("f4")
    np.testing.assert_array_equal(table["FOREST_SCORE"], isolation_scores(latents, 5))
    inputs = latents, table["RECON_MSE"], table["SNR"], table["redshift"]
    for name, values in fit_reference(*inputs, 5).score(*inputs).items():
        np.testing.assert_array_equal(table[name], values, err_msg=name)
    np.testing.assert_allclose(table["SNR"][used], signal_to_noise(batch.flux, batch.ivar)[used].numpy())
    np.testing.assert_allclose(table["NORM"][used], batch.norm[used].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--batch-size", "1"], ["--batch-size", "100", "--reader-threads", "0"]])
def test_batch_size_and_threads_change_nothing(run, spectra, tmp_path, options):
    command = ["encode", str(run), str(spectra), "--out"]
    assert main([*command, str(tmp_path / "a.h5")]) == 0
    assert main([*command, str(tmp_path / "b.h5"), *options]) == 0
    first, second = read(tmp_path / "a.h5")[0], read(tmp_path / "b.h5")[0]
    for name in ("target_id", "STATUS", "NUM_PIXELS", "WINDOW", "NORM"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    np.testing.assert_allclose(first["RECON_MSE"], second["RECON_MSE"], rtol=1e-4)


def test_other_columns_are_copied_with_their_attributes(run, spectra, tmp_path):
    second = write_spectra(tmp_path / "second.h5", seed=1)
    assert main(["encode", str(run), str(spectra), str(second), "--out", str(tmp_path / "out.h5")]) == 0
    with h5py.File(tmp_path / "out.h5") as out, h5py.File(spectra) as one, h5py.File(second) as two:
        np.testing.assert_array_equal(out["ra"][()], np.concatenate([one["ra"][()], two["ra"][()]]))
        assert out["ra"].attrs["unit"] == "deg"
        assert out["spectype"][:2].tolist() == [b"QSO", b"GALAXY"]
        assert "resolution" not in out
        assert "flux" not in out


def test_the_survey_file_of_each_spectrum_is_copied_by_its_name(run, spectra, tmp_path):
    second = write_spectra(tmp_path / "second.h5", seed=1)
    for path, names in ((spectra, ["a.fits", "longer.fits"]), (second, ["b.fits"])):
        with h5py.File(path, "a") as file:
            file["source_file"] = np.resize([0, len(names) - 1, -1], N).astype("i4")
            file.create_dataset("provenance/source_files", data=names, dtype=h5py.string_dtype())
    assert main(["encode", str(run), str(spectra), str(second), "--out", str(tmp_path / "out.h5")]) == 0
    table, _ = read(tmp_path / "out.h5")
    assert table["source_file"].dtype == np.dtype("S11")
    assert table["source_file"][:3].tolist() == [b"a.fits", b"longer.fits", b""]
    assert table["source_file"][N : N + 3].tolist() == [b"b.fits", b"b.fits", b""]


def test_split_takes_the_objects_the_run_held_out(run, spectra, tmp_path):
    out = tmp_path / "out.h5"
    assert main(["encode", str(run), str(spectra), "--out", str(out), "--split", "validation"]) == 0
    with h5py.File(spectra) as file:
        ids = file["target_id"][()]
    side = assign_split(ids, SplitSection(validation=0.4))
    assert read(out)[0]["target_id"].tolist() == ids[side == VALIDATION].tolist()


def test_rows_may_be_asked_for_in_any_order(run, spectra, tmp_path):
    model, card = load_model(run)
    data = open_spectra(SpectraSection(files=[str(spectra)]))
    encode_to_file(model, card, data, np.array([5, 2, 9]), tmp_path / "out.h5")
    table, _ = read(tmp_path / "out.h5")
    assert (table["target_id"] - 39_000_000_000_000_000).tolist() == [5, 2, 9]
    with h5py.File(spectra) as file:
        np.testing.assert_array_equal(table["ra"], file["ra"][()][[5, 2, 9]])


def test_spectra_on_another_grid_are_refused_before_anything_is_written(run, tmp_path):
    other = write_spectra(tmp_path / "log.h5", wavelength=np.geomspace(3600.0, 9824.0, L))
    model, card = load_model(run)
    with pytest.raises(DataError, match=r"middle pixel at .* AA, the model's is at .*; run `hpctrain ingest`"):
        encode_to_file(model, card, open_spectra(SpectraSection(files=[str(other)])), None, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_an_old_catalogue_stays_when_the_new_one_cannot_be_made(run, tmp_path, capsys):
    out = tmp_path / "out.h5"
    out.write_bytes(b"old")
    short = write_spectra(tmp_path / "short.h5", wavelength=WAVELENGTH[:-1])
    assert main(["encode", str(run), str(short), "--out", str(out)]) == 4
    assert "exists already; give another name or --overwrite" in capsys.readouterr().err
    assert main(["encode", str(run), str(short), "--out", str(out), "--overwrite"]) == 4
    assert "199 pixels, the model has 200" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "short.h5"]


def test_a_catalogue_without_one_encoded_spectrum_is_an_error_and_is_not_written(run, tmp_path, capsys):
    path = write_spectra(tmp_path / "spectra.h5")
    with h5py.File(path, "a") as file:
        file["ivar"][...] = 0
    assert main(["encode", str(run), str(path), "--out", str(tmp_path / "out.h5")]) == 4
    error = capsys.readouterr().err
    assert "none of the 25 spectra can be encoded (25: no valid pixel or no redshift), so nothing is written" in error
    assert "hpctrain data doctor" in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["spectra.h5"]


def test_an_existing_catalogue_is_replaced_only_on_demand(run, spectra, tmp_path):
    out = tmp_path / "out.h5"
    command = ["encode", str(run), str(spectra), "--out", str(out)]
    assert main(command) == 0
    before = out.stat().st_ino
    assert main(command) == 4
    assert out.stat().st_ino == before
    assert main([*command, "--overwrite"]) == 0


def test_named_columns_are_read(run, tmp_path):
    path = write_spectra(tmp_path / "spectra.h5")
    with h5py.File(path, "a") as file:
        file.move("flux", "spectrum_flux")
    command = ["encode", str(run), str(path), "--out", str(tmp_path / "out.h5")]
    assert main([*command, "--column", "flux=spectrum_flux"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "{spectra}"], 2, "is one of the input files; choose another name"),
        (["--out", "{folder}/nowhere/out.h5"], 2, "nowhere is no directory; make it first"),
        (["--out", "{folder}/o.h5", "--column", "flx=a", "--column", "flux"], 2, "'flux' is not NAME=DATASET"),
        (["--out", "{folder}/o.h5", "--checkpoint", "12"], 5, "no checkpoint 'step-00000012'; there: none"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(run, spectra, tmp_path, capsys, arguments, code, message):
    filled = [text.format(spectra=spectra, folder=tmp_path) for text in arguments]
    assert main(["encode", str(run), str(spectra), *filled]) == code
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["spectra.h5"]


def test_a_card_keeps_what_the_catalogue_says_about_its_origin(run, spectra, tmp_path):
    assert main(["encode", str(run), str(spectra), "--out", str(tmp_path / "out.h5")]) == 0
    _, attributes = read(tmp_path / "out.h5")
    assert json.loads(attributes["normalise"]) == NormaliseSection().model_dump(mode="json")
    assert attributes["model_weights"].endswith("model.safetensors")
    assert attributes["format"] == "hpctrain-latents"
