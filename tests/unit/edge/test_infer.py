"""A bundle over files: the same numbers as ``hpctrain encode``, from FITS or HDF5, in bounded memory, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from survey_files import make_desi, make_redshifts, make_sdss

from hpctrain.cli import main
from hpctrain.edge.bundle import GOOD, REJECTED, read_bundle, seal_bundle, write_reference
from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.infer import infer_files
from hpctrain.edge.networks import exported_network
from hpctrain.edge.onnx_file import write_onnx
from hpctrain.edge.reference import Deviation, Reference
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.spectra_files import SpectraFiles
from hpctrain.families.spectral_vae.anomaly import fit_reference
from hpctrain.families.spectral_vae.encode import encode_to_file
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import load_model, save_model
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.grids import desi_grid
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import NormaliseSection, SpectraSection
from hpctrain.profile.sections.data import SplitSection

pytestmark = pytest.mark.slow

L = 7781
SECTION = SpectralVAESection(
    latent_size=3,
    encoder_channels=[4, 8],
    encoder_kernels=[11, 21],
    encoder_hidden=[8],
    decoder_hidden=[8],
    rest_wavelength_aa=(1000.0, 9800.0),
    rest_pixels=2000,
)


def make_reference(network, path, wrong=0.0):
    """Two spectra and what this very machine makes of them, but for an error of the latents."""
    rng = np.random.default_rng(5)
    flux = rng.normal(5.0, 1.0, (2, L)).astype("f4")
    blank = np.zeros((2, SECTION.latent_size), "f4")
    made = Reference(
        flux, np.ones_like(flux), desi_grid(), np.array([0.1, 0.2]), blank, np.ones(2, "f4"), np.ones_like(blank[0])
    )
    prepared = network.preparation(made.flux, made.ivar, made.wavelength_aa, made.redshift)
    columns = network.preparation.catalogue(prepared, OnnxNetwork(path)(prepared.feeds))
    latents = columns["LATENT_VEC"] + np.float32(wrong)
    return replace(made, latents=latents, chi2=columns["RECON_MSE"], tolerance=Deviation(0.02, 0.01))


def make_bundle(folder, model_folder, status=GOOD, wrong=None, **entries):
    """A bundle of a network that was never trained: what comes out means nothing, but must be the same everywhere."""
    model, card = load_model(model_folder)
    network = exported_network(model, card)
    folder.mkdir()
    write_onnx(network, folder / "model.onnx")
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(64, SECTION.latent_size))
    ordinary = fit_reference(latents, rng.uniform(0.8, 1.2, 64), rng.uniform(2, 9, 64), rng.uniform(0, 0.6, 64), 1)
    reference = None if wrong is None else make_reference(network, folder / "model.onnx", wrong)
    write_reference(folder, desi_grid(), IsolationForest.fit(latents, 1), reference, ordinary)
    seal_bundle(folder, status=status, num_pixels=L, preparation=network.preparation, network={}, card=card, **entries)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    facts = SpectraFacts(L, (3600.0, 9824.0), 0.0, 2.0, float(desi_grid()[L // 2]))
    torch.manual_seed(0)
    extra = {"name": "tiny", "seed": 1, "normalise": NormaliseSection().model_dump(mode="json")}
    extra["split"] = SplitSection().model_dump(mode="json")
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, SpectralVAE(SECTION, facts), SECTION, facts, extra)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, model_folder):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle", model_folder)


def write_spectra(path, num=20, grid=None, seed=0):
    grid = desi_grid() if grid is None else grid
    rng = np.random.default_rng(seed)
    flux = rng.normal(5.0, 1.0, (num, len(grid))).astype("f4")
    ivar = rng.uniform(0.5, 1.5, flux.shape).astype("f4")
    flux[2, 50], ivar[3] = np.nan, 0
    mask = np.zeros(flux.shape, "u1")
    mask[:, 500:600] = 1
    with h5py.File(path, "w") as file:
        file.create_dataset("flux", data=flux, chunks=(4, len(grid)), compression="gzip", shuffle=True)
        file["ivar"], file["mask"], file["wavelength"] = ivar, mask, grid
        file["redshift"] = rng.uniform(0.0, 0.6, num)
        file["target_id"] = np.arange(num) + 39_000_000_000_000_000
        file["ra"] = rng.uniform(0, 360, num)
    return path


def read(path):
    with h5py.File(path) as file:
        return {name: item[:] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def test_the_numbers_are_those_of_encode(bundle, model_folder, tmp_path, capsys):
    spectra = write_spectra(tmp_path / "s.h5")
    model, card = load_model(model_folder)
    encode_to_file(model, card, open_spectra(SpectraSection(files=[str(spectra)])), None, tmp_path / "encoded.h5")
    assert main(["infer", str(bundle), str(spectra), "--out", str(tmp_path / "inferred.h5")]) == 0
    ours, theirs = read(tmp_path / "inferred.h5"), read(tmp_path / "encoded.h5")
    for name in ("target_id", "STATUS", "WINDOW", "NUM_PIXELS", "ra"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert (ours["STATUS"] == 0).sum() == 19
    for name, tolerance in (("LATENT_VEC", 2e-3), ("RECON_MSE", 1e-4), ("NORM", 1e-6), ("redshift", 0)):
        np.testing.assert_allclose(ours[name].astype("f8"), theirs[name].astype("f8"), rtol=tolerance, atol=1e-6)
    np.testing.assert_allclose(ours["SNR"], theirs["SNR"], rtol=1e-5)
    inputs = ours["LATENT_VEC"], ours["RECON_MSE"], ours["SNR"], ours["redshift"]
    for name, scores in read_bundle(bundle).scores(*inputs).items():
        np.testing.assert_array_equal(ours[name], scores, err_msg=name)
    assert np.array_equal(np.isfinite(ours["ANOMALY_SCORE"]), ours["STATUS"] == 0)
    assert "19  encoded" in capsys.readouterr().out


def table_of(bundle, files, batch_size):
    parts = []
    loaded = read_bundle(bundle)
    network = OnnxNetwork(loaded.network)
    infer_files(loaded, network, files, batch_size, lambda _, table: parts.append(table))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_batches_of_any_size_give_the_same_numbers(bundle, tmp_path):
    path = write_spectra(tmp_path / "s.h5")

    def files():
        return SpectraFiles([path], desi_grid(), L, rows_at_once=8)

    one, many = table_of(bundle, files(), 1), table_of(bundle, files(), 16)
    for name in one:
        np.testing.assert_allclose(one[name].astype("f8"), many[name].astype("f8"), rtol=2e-3, atol=1e-5)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak_bytes(num):
        path = tmp_path / f"{num}.h5"
        with h5py.File(path, "w") as file:
            for name in ("flux", "ivar"):
                file.create_dataset(name, (num, L), "f4", chunks=(64, L), compression="gzip")  # never written: all 0
            file["wavelength"], file["redshift"], file["target_id"] = desi_grid(), np.zeros(num), np.arange(num)
        tracemalloc.start()
        assert sum(map(len, SpectraFiles([path], desi_grid(), L, rows_at_once=64))) == num
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = peak_bytes(128), peak_bytes(4096)
    assert large < small + 0.1 * 64 * L * 4


def test_desi_files_come_with_the_redshifts_beside_them(bundle, tmp_path, capsys):
    coadd = make_desi(tmp_path / "coadd-main-dark-7.fits", [11, 12, 13])
    rows = {"TARGETID": [11, 12, 13], "Z": [0.3, 0.4, 1.1], "ZERR": [1e-4] * 3, "ZWARN": [0] * 3}
    make_redshifts(tmp_path / "redrock-main-dark-7.fits", "REDSHIFTS", rows)
    out = tmp_path / "latents.h5"
    assert main(["infer", str(bundle), str(coadd), "--out", str(out)]) == 0, capsys.readouterr().err
    table = read(out)
    np.testing.assert_array_equal(table["target_id"], [11, 12, 13])
    np.testing.assert_allclose(table["redshift"], [0.3, 0.4, 1.1], rtol=1e-6)
    with h5py.File(out) as file:
        assert set(file["source_file"][:].tolist()) == {os.fsencode(coadd)}
        assert file.attrs["anomaly_reference"] == "64 training spectra in the bundle"


def ingested(survey, sources, out, *options):
    """What `hpctrain ingest` makes of the same files."""
    assert main(["ingest", survey, *map(str, sources), "--out", str(out), *options]) == 0
    return read(out)


def by_observation(table):
    keys = zip(*(table[name].tolist() for name in ("plate", "mjd", "fiber")), strict=True)
    return dict(zip(keys, range(len(table["plate"])), strict=True))


OBSERVATIONS = (
    {"PLATE": 3586, "MJD": 55181, "FIBERID": 1},
    {"PLATE": 266, "MJD": 51602, "FIBERID": 13, "PLUG_RA": 146.1, "PLUG_DEC": 0.5, "SPECOBJID": str(2**64 - 7)},
    {"PLATE": 4055, "MJD": 55359, "FIBERID": 2, "PLUG_RA": 112.0475, "PLUG_DEC": 40.3513},  # the first, again
)


def test_sdss_spectra_keep_their_names_and_get_the_target_ids_of_ingest(bundle, tmp_path, capsys):
    folder = tmp_path / "sdss"
    folder.mkdir()
    for facts in OBSERVATIONS:
        name = "spec-{PLATE:04}-{MJD}-{FIBERID:04}.fits".format(**facts)
        make_sdss(folder, name, num_pixels=4000, Z=0.2, **facts)
    theirs = ingested("sdss", [folder], tmp_path / "ingested.h5", "--grid", "desi")
    assert main(["infer", str(bundle), str(folder), "--out", str(tmp_path / "out.h5")]) == 0, capsys.readouterr().err
    ours = read(tmp_path / "out.h5")
    ours_by, theirs_by = by_observation(ours), by_observation(theirs)
    assert ours_by.keys() == theirs_by.keys() == {(o["PLATE"], o["MJD"], o["FIBERID"]) for o in OBSERVATIONS}
    for observation, row in ours_by.items():
        for name in ("target_id", "ra", "dec", "specobjid", "survey", "spectype", "zwarn"):
            assert ours[name][row] == theirs[name][theirs_by[observation]], name
        assert "-{1}-".format(*observation) in ours["source_file"][row].decode()
    ids = {observation: ours["target_id"][row] for observation, row in ours_by.items()}
    assert len(set(ids.values())) == 2
    assert ids[3586, 55181, 1] == ids[4055, 55359, 2] != 0
    assert ours["specobjid"][ours_by[266, 51602, 13]] == 2**64 - 7


def test_the_file_of_ingest_keeps_them_too(bundle, tmp_path):
    """FITS and the HDF5 file made of it give the same catalogue, and `hpctrain encode` copies the same columns."""
    facts = OBSERVATIONS[1]
    source = make_sdss(tmp_path, "spec-0266-51602-0013.fits", num_pixels=4000, Z=0.2, **facts)
    ingested("sdss", [source], tmp_path / "ingested.h5", "--grid", "desi")
    tables = []
    for name in ("spec-0266-51602-0013.fits", "ingested.h5"):
        out = tmp_path / f"of-{name}.h5"
        assert main(["infer", str(bundle), str(tmp_path / name), "--out", str(out)]) == 0
        tables.append(read(out))
    assert tables[0].keys() == tables[1].keys()
    for name in ("target_id", "plate", "mjd", "fiber", "specobjid", "ra", "dec", "survey", "zwarn", "STATUS"):
        np.testing.assert_array_equal(tables[0][name], tables[1][name])


def test_columns_that_only_some_files_have_are_filled_with_what_says_unknown(bundle, tmp_path):
    sdss = make_sdss(tmp_path, num_pixels=4000, Z=0.2)
    plain = write_spectra(tmp_path / "a.h5", num=5)
    coadd = make_desi(tmp_path / "coadd-main-dark-7.fits", [11, 12])
    out = tmp_path / "out.h5"
    assert main(["infer", str(bundle), str(plain), str(sdss), str(coadd), "--out", str(out)]) == 0
    table = read(out)
    assert {len(values) for values in table.values()} == {8}
    of_sdss = table["source_file"] == os.fsencode(sdss)
    assert table["plate"][of_sdss].tolist() == [3586]
    assert set(table["plate"][~of_sdss].tolist()) == {-1}
    assert table["survey"][table["source_file"] == os.fsencode(coadd)].tolist() == [b"main"] * 2
    assert table["target_id"].tolist()[:5] == [39_000_000_000_000_000 + number for number in range(5)]


def test_a_file_without_spectra_in_a_folder_is_skipped_and_an_earlier_catalogue_too(bundle, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_spectra(folder / "good.h5", num=5)
    with h5py.File(folder / "catalogue.h5", "w") as file:
        file["target_id"] = np.arange(3)
    out = folder / "latents.h5"
    for _ in range(2):  # the second time the catalogue is in the folder
        assert main(["infer", str(bundle), str(folder), "--out", str(out)]) == 0
        assert f"skipped, no spectra in it: {folder / 'catalogue.h5'}: lacks flux" in capsys.readouterr().err
        assert len(read(out)["target_id"]) == 5
    assert main(["infer", str(bundle), str(folder / "good.h5"), str(folder / "catalogue.h5"), "--out", str(out)]) == 4
    assert "1 of 2 files could not be used; the results of the others are complete" in capsys.readouterr().err


def test_without_out_there_is_a_line_for_each_spectrum(bundle, tmp_path, capsys):
    spectrum = make_sdss(tmp_path, num_pixels=4000, Z=0.2)
    assert main(["infer", str(bundle), str(spectrum)]) == 0
    printed = capsys.readouterr()
    header, line = printed.out.splitlines()
    assert header.split() == ["target_id", "redshift", "chi2", "anomaly", "where"]
    assert "0.20000" in line
    assert "spec-3586-55181-0001.fits" in line
    assert "1 spectra in" in printed.err


def test_a_file_that_is_not_there_is_named_in_words_of_this_command(bundle, tmp_path, capsys):
    assert main(["infer", str(bundle), str(tmp_path / "absent.h5")]) == 4
    printed = capsys.readouterr().err
    assert f"{tmp_path / 'absent.h5'}: no such file or folder" in printed
    assert "ingest" not in printed


def test_a_broken_file_is_named_and_the_others_go_on(bundle, tmp_path, capsys):
    good = write_spectra(tmp_path / "good.h5", num=5)
    broken = tmp_path / "broken.h5"
    broken.write_bytes(good.read_bytes()[:3000])
    coarse = write_spectra(tmp_path / "coarse.h5", num=5, grid=np.linspace(3600, 9824, 100))
    shifted = write_spectra(tmp_path / "shifted.h5", num=5, grid=desi_grid() + 0.4)
    text = tmp_path / "spec-1-2-3.fits"
    text.write_text("no FITS")
    names = [str(path) for path in (broken, coarse, good, shifted, text)]
    assert main(["infer", str(bundle), *names, "--out", str(tmp_path / "out.h5")]) == 4
    errors = capsys.readouterr().err
    assert f"{broken}: cannot be read as HDF5" in errors
    assert f"{coarse}: flux has shape (5, 100), the network takes 7781 pixels" in errors
    assert f"{shifted}: is on another wavelength grid" in errors
    assert f"{text}: " in errors
    assert len(read(tmp_path / "out.h5")["target_id"]) == 5


def test_results_that_agree_with_the_reference_pass_without_a_word(tmp_path, model_folder, capsys):
    good = make_bundle(tmp_path / "good", model_folder, wrong=0.0)
    assert main(["infer", str(good), str(write_spectra(tmp_path / "s.h5", num=5))]) == 0
    assert "reference" not in capsys.readouterr().err


def test_a_device_that_gets_other_results_than_the_export_is_refused_before_the_first_row(
    tmp_path, model_folder, capsys
):
    bad = make_bundle(tmp_path / "bad", model_folder, wrong=0.3)
    spectra = write_spectra(tmp_path / "s.h5", num=5)
    out = tmp_path / "out.h5"
    assert main(["infer", str(bad), str(spectra), "--out", str(out)]) == 7
    error = capsys.readouterr().err
    assert not out.exists()
    for words in (str(bad), "by up to 0.3 of their spread (tolerance 0.02)", "CPUExecutionProvider of onnxruntime"):
        assert words in error
    assert main(["infer", str(bad), str(spectra), "--out", str(out), "--force"]) == 0
    assert "used anyway (--force)" in capsys.readouterr().err
    assert len(read(out)["target_id"]) == 5


def test_an_older_bundle_without_a_reference_is_used_and_says_so(bundle, tmp_path, capsys):
    assert main(["infer", str(bundle), str(write_spectra(tmp_path / "s.h5", num=5))]) == 0
    assert "holds no reference spectra (an older hpctrain exported it)" in capsys.readouterr().err


def test_a_bundle_that_failed_its_gates_is_refused(tmp_path, model_folder, capsys):
    gates = [{"name": "chi2", "passed": False}]
    bad = make_bundle(tmp_path / "bad", model_folder, status=REJECTED, gates=gates)
    spectra = write_spectra(tmp_path / "s.h5", num=5)
    assert main(["infer", str(bad), str(spectra)]) == 5
    assert "did not pass its gates" in capsys.readouterr().err
    assert main(["infer", str(bad), str(spectra), "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["s.h5", "--column", "flux"], "is not NAME=DATASET", 2),
        (["s.h5", "--out", "s.h5"], "is one of the input files", 2),
        (["s.h5", "--out", "nowhere/out.h5"], "is no directory", 2),
        (["absent.h5"], "absent.h5: no such file or folder", 4),
        (["s.h5", "--provider", "TpuExecutionProvider"], "has no TpuExecutionProvider", 3),
        (["s.h5", "--column", "flux=FLUX"], "lacks FLUX; it has flux", 4),
    ],
    ids=["column", "out is input", "no folder", "absent", "provider", "no dataset"],
)
def test_a_mistake_gets_one_clear_error(bundle, tmp_path, monkeypatch, capsys, arguments, message, code):
    write_spectra(tmp_path / "s.h5", num=5)
    monkeypatch.chdir(tmp_path)
    assert main(["infer", str(bundle), *arguments]) == code
    assert message in capsys.readouterr().err


def test_nothing_of_the_training_is_needed(bundle, tmp_path):
    """On a device there are numpy, h5py and onnxruntime, and scipy and astropy for survey files."""
    absent = ("torch", "pydantic", "submitit", "safetensors", "sklearn", "matplotlib", "tensorboard", "rich", "yaml")
    for package in absent:
        (tmp_path / "absent" / package).mkdir(parents=True)
        (tmp_path / "absent" / package / "__init__.py").write_text(
            f"raise ImportError('no {package} on this device')\n"
        )
    spectra = write_spectra(tmp_path / "s.h5", num=5)
    coadd = make_desi(tmp_path / "coadd-main-dark-7.fits", [11, 12])
    paths = os.pathsep.join(filter(None, [str(tmp_path / "absent"), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "hpctrain.local", "--infer", str(bundle), str(spectra), str(coadd)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.h5")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "out.h5")["target_id"]) == 7


@pytest.mark.shared_data
def test_real_spectra_join_to_the_survey_and_to_ingest(bundle, shared_data, tmp_path, capsys):
    sdss = sorted((shared_data / "sdss_spec").glob("spec-*.fits.gz"))[:12]
    coadd = shared_data / "desi_coadd" / "coadd-special-dark-27247.fits"
    theirs = ingested("sdss", sdss, tmp_path / "sdss.h5", "--grid", "desi", "--min-good-fraction", "0")
    assert main(["infer", str(bundle), *map(str, [*sdss, coadd]), "--out", str(tmp_path / "out.h5")]) == 0
    ours = read(tmp_path / "out.h5")
    names = by_observation(ours)
    for observation, row in by_observation(theirs).items():
        assert ours["target_id"][names[observation]] == theirs["target_id"][row] != 0
        plate, mjd, fiber = observation
        assert f"spec-{plate:04}-{mjd}-{fiber:04}" in ours["source_file"][names[observation]].decode()
    desi = ingested("desi", [coadd], tmp_path / "desi.h5")
    of_desi = ours["source_file"] == os.fsencode(coadd)
    assert set(desi["target_id"].tolist()) <= set(ours["target_id"][of_desi].tolist())
    assert np.isfinite(ours["ra"]).all()


@pytest.mark.shared_data
def test_real_desi_and_sdss_spectra_are_inferred(bundle, shared_data, tmp_path, capsys):
    out = tmp_path / "latents.h5"
    desi = [
        shared_data / "desi_coadd" / f"coadd-{name}.fits" for name in ("special-dark-27247", "4-80613-thru20210324")
    ]
    sdss = sorted((shared_data / "sdss_spec").glob("spec-0[23]*.fits.gz"))
    assert main(["infer", str(bundle), *map(str, [*desi, *sdss]), "--out", str(out)]) == 0, capsys.readouterr().err
    table = read(out)
    assert set(table["source_file"].tolist()) == {os.fsencode(path) for path in (*desi, *sdss)}
    encoded = table["STATUS"] == 0
    assert encoded.sum() > 0.3 * len(encoded)
    assert np.isfinite(table["LATENT_VEC"][encoded]).all()
    with h5py.File(out) as file:
        assert json.loads(file.attrs["normalise"])["min_snr"] == 2.0
