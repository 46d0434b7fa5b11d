"""``hpctrain.load`` of a bundle: the interface and the numbers of the network, by onnxruntime, without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from export_parts import CARD, SECTION
from survey_files import make_sdss

import hpctrain
from hpctrain.edge.bundle import GOOD, REJECTED, seal_bundle, write_reference
from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.plain import export_plain
from hpctrain.edge.reference import Deviation, Reference
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.errors import CheckpointError, DataError, GateError, ProfileError
from hpctrain.families.spectral_vae.anomaly import fit_reference
from hpctrain.families.store import card_entries, save_model
from hpctrain.profile.families import family_of, kind_of
from hpctrain.profile.load import load_profile

pytestmark = pytest.mark.slow
"""Exporting the network of these tests takes ten seconds."""

NUMBERS = ("WINDOW", "NUM_PIXELS", "STATUS", "target_id", "row")


@pytest.fixture
def make_bundle(tmp_path, model, network, graph, spectra):
    """Return a function that makes a bundle of a network that was never trained."""

    def make(status=GOOD, wrong=0.0, name="bundle", is_old=False):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(graph, folder / "model.onnx")
        save_model(folder, model, SECTION, model.facts, {**CARD, "name": "tiny", "step": 3})
        rng = np.random.default_rng(0)
        latents = rng.normal(size=(64, SECTION.latent_size))
        values = rng.uniform(0.8, 1.2, 64), rng.uniform(2, 9, 64), rng.uniform(0, 2, 64)
        batch = spectra.read(np.arange(4))
        made = Reference(
            batch.flux.numpy(), batch.ivar.numpy(), spectra.wavelength_aa, batch.redshift.numpy().astype("f8"),
            np.zeros((4, SECTION.latent_size), "f4"), np.ones(4, "f4"), np.ones(SECTION.latent_size, "f4"),
        )  # fmt: skip
        prepared = network.preparation(made.flux, made.ivar, made.wavelength_aa, made.redshift)
        columns = network.preparation.catalogue(prepared, OnnxNetwork(graph)(prepared.feeds))
        made = replace(
            made,
            latents=columns["LATENT_VEC"] + np.float32(wrong),
            chi2=columns["RECON_MSE"],
            tolerance=Deviation(0.02, 0.01),
        )
        ordinary = None if is_old else fit_reference(latents, *values, 1)
        write_reference(folder, spectra.wavelength_aa, IsolationForest.fit(latents, 1), made, ordinary)
        seal_bundle(
            folder,
            status=status,
            num_pixels=spectra.num_pixels,
            preparation=network.preparation,
            network={},
            card={**CARD, "name": "tiny"},
        )
        return folder

    return make


@pytest.fixture
def bundle(make_bundle):
    return make_bundle()


def arrays_of(path):
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in ("flux", "ivar", "wavelength", "redshift", "target_id")}


def test_the_numbers_are_those_of_the_network_from_files_and_arrays(bundle, simulated_file):
    by_torch = hpctrain.load(bundle / "model.safetensors").encode(simulated_file, rows=slice(0, 60))
    loaded = hpctrain.load(bundle)
    table = loaded.encode(simulated_file, rows=slice(0, 60), scores=True)
    arrays = loaded.encode(arrays_of(simulated_file), rows=slice(0, 60), scores=True)
    for name in NUMBERS:
        assert table[name].tolist() == arrays[name].tolist() == by_torch[name].tolist(), name
    used = table["STATUS"] == 0
    for name, tolerance in (("LATENT_VEC", 5e-3), ("RECON_MSE", 1e-3)):
        np.testing.assert_array_equal(table[name], arrays[name])
        np.testing.assert_allclose(table[name][used], by_torch[name][used], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(table["ANOMALY_SCORE"], arrays["ANOMALY_SCORE"])
    assert np.isfinite(table["ANOMALY_SCORE"][used]).all()
    assert table.colnames[:3] == by_torch.colnames[:3] == ["target_id", "row", "redshift"]
    assert set(table.colnames) - set(arrays.colnames) >= {"source_file", "source_row", "ra", "dec"}
    assert "ANOMALY_SCORE" not in loaded.predict(simulated_file, rows=[0]).colnames


def test_a_bundle_of_an_older_hpctrain_has_only_the_score_of_its_forest(make_bundle, simulated_file):
    table = hpctrain.load(make_bundle(is_old=True)).encode(simulated_file, rows=slice(0, 5), scores=True)
    used = table["STATUS"] == 0
    assert used.any()
    assert np.isfinite(table["FOREST_SCORE"][used]).all()
    for name in ("ANOMALY_SCORE", "LOCAL_CHI2", "LATENT_DENSITY"):
        assert np.isnan(table[name]).all(), name
    assert set(table["ANOMALY_REASON"].tolist()) == {255}


def test_a_reconstruction_is_that_of_the_network(bundle, simulated_file):
    shown = hpctrain.load(bundle).reconstruct(simulated_file, rows=[3, 5, 300])
    by_torch = hpctrain.load(bundle / "model.safetensors").reconstruct(simulated_file, rows=[3, 5, 300])
    assert shown.keys() == by_torch.keys()
    for name, values in by_torch.items():
        scale = max(np.nanmax(np.abs(values.astype(float))), 1e-30)
        np.testing.assert_allclose(shown[name] / scale, values / scale, atol=1e-4, err_msg=name)
        assert shown[name].dtype == values.dtype, name


def test_rows_of_files_increase_and_end_with_the_files(bundle, simulated_file):
    loaded = hpctrain.load(bundle)
    assert loaded.predict(simulated_file, rows=slice(380, 396, 5))["row"].tolist() == [380, 385, 390, 395]
    assert loaded.predict([simulated_file, simulated_file.parent / "*.h5"], rows=[399])["source_row"].tolist() == [399]
    for rows in ([5, 3], slice(-3, None), [-1], [0.5]):
        with pytest.raises(DataError, match="rows must increase from 0"):
            loaded.predict(simulated_file, rows=rows)
    with pytest.raises(DataError, match="400 was asked for; there are 400 rows"):
        loaded.predict(simulated_file, rows=[0, 400])
    assert loaded.predict(arrays_of(simulated_file), rows=[5, 3])["row"].tolist() == [5, 3]


def test_files_of_a_survey_are_read_and_named(bundle, tmp_path):
    sources = [make_sdss(tmp_path, f"spec-3586-55181-{fiber:04d}.fits") for fiber in (1, 2)]
    table = hpctrain.load(bundle).predict(str(tmp_path / "spec-*.fits"))
    assert table["source_file"].tolist() == [str(path) for path in sources]
    assert {"plate", "mjd", "fiber", "ra", "dec"} <= set(table.colnames)
    assert table["ra"].unit == "deg"


def test_data_that_do_not_fit_are_named(bundle, tmp_path, simulated_file):
    loaded = hpctrain.load(bundle)
    given = arrays_of(simulated_file)
    with pytest.raises(DataError, match="do not fit the model: they are on another wavelength grid"):
        loaded.predict(given | {"wavelength": given["wavelength"] * 1.001})
    with pytest.raises(DataError, match="do not fit the model: 9 pixels, the model has 500"):
        loaded.predict(given | {name: given[name][..., :9] for name in ("flux", "ivar", "wavelength")})
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"broken.h5: "):
        loaded.predict([simulated_file, tmp_path / "broken.h5"])


def test_a_bundle_that_cannot_be_trusted_is_refused_unless_forced(make_bundle, simulated_file):
    rejected, wrong = make_bundle(REJECTED, name="rejected"), make_bundle(wrong=5.0, name="wrong")
    with pytest.raises(CheckpointError, match=r"did not pass its gates .* force=True"):
        hpctrain.load(rejected)
    with pytest.raises(GateError, match="gets other results than the export did"):
        hpctrain.load(wrong)
    for path in (rejected, wrong / "bundle.json"):
        assert len(hpctrain.load(path, force=True).predict(simulated_file, rows=slice(0, 2))) == 2
    with pytest.raises(ProfileError, match="is a bundle, which has no checkpoints"):
        hpctrain.load(rejected, checkpoint=3)


def test_a_bundle_needs_no_torch(bundle, simulated_file):
    code = (
        "import sys, hpctrain\n"
        f"model = hpctrain.load({str(bundle)!r})\n"
        f"data = {str(simulated_file)!r}\n"
        "print(model.family, model.facts.num_pixels, model.card['step'], len(model.encode(data, rows=slice(0, 3))))\n"
        "import h5py\n"
        "file = h5py.File(data)\n"
        "some = {name: file[name][:2] for name in ('flux', 'ivar', 'redshift')}\n"
        "print(len(model.reconstruct({**some, 'wavelength': file['wavelength'][:]})['chi2']))\n"
        "print(sorted({'torch', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "spectral_vae 500 3 3\n2\n[]\n", done.stderr


def test_a_network_of_ones_own_and_its_plain_export_predict_the_same(simulated_file, spectra, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "docs"))
    values = {
        "name": "own",
        "data": {"files": [str(simulated_file)]},
        "model": {"family": "examples.linear_autoencoder"},
    }
    profile = load_profile(values)
    facts = kind_of(profile).facts(spectra, np.arange(len(spectra)))
    torch.manual_seed(0)
    network = family_of(profile).network(profile.model, facts).eval()
    save_model(tmp_path / "own" / "model", network, profile.model, facts, card_entries(profile))
    model = hpctrain.load(tmp_path / "own")
    table = model.predict(simulated_file, rows=[7, 5])
    assert table.colnames == ["target_id", "row", "redshift", "SCORES", "CHI2"]
    batch = kind_of(profile).preparation(model.card)(spectra.read(np.array([7, 5])))
    with torch.no_grad():
        np.testing.assert_allclose(table["SCORES"], network.predict(batch)["SCORES"].numpy(), rtol=1e-5, atol=1e-5)
    for method in (model.encode, model.reconstruct):
        with pytest.raises(DataError, match="a model of the family linear_autoencoder "):
            method(simulated_file)
    export_plain(profile, tmp_path / "own", tmp_path / "plain", replace=False)
    exported = hpctrain.load(tmp_path / "plain")
    for name, tolerance in (("SCORES", 1e-4), ("CHI2", 1e-3)):
        np.testing.assert_allclose(
            exported.predict(arrays_of(simulated_file), rows=[7, 5])[name], table[name], rtol=tolerance, atol=tolerance
        )
