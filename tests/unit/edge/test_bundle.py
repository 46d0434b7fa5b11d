"""A bundle is whole, or it says what is wrong with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpctrain.edge.bundle import GOOD, MANIFEST, NETWORK, REFERENCE, read_bundle, seal_bundle, write_reference
from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.prepare import Preparation
from hpctrain.errors import CheckpointError

WAVELENGTH = np.linspace(3600.0, 9824.0, 50)
PREPARATION = Preparation(((5300.0, 5850.0),), 2.0, 7.0, 1e-4, 100, 8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / NETWORK).write_bytes(b"a network")
    forest = IsolationForest.fit(np.random.default_rng(0).normal(size=(20, 3)), 1)
    write_reference(tmp_path, WAVELENGTH, forest)
    card = {"name": "desi", "family": "spectral_vae"}
    seal_bundle(
        tmp_path,
        status=GOOD,
        num_pixels=50,
        preparation=PREPARATION,
        network={"precision": "fp32"},
        card=card,
        gates=[{"name": "chi2", "passed": True}],
    )
    return tmp_path


def test_what_was_sealed_is_read_back(folder):
    bundle = read_bundle(folder)
    assert bundle.is_good
    assert (bundle.name, bundle.num_pixels, bundle.preparation) == ("desi", 50, PREPARATION)
    np.testing.assert_array_equal(bundle.wavelength_aa, WAVELENGTH)
    assert bundle.forest.score(np.zeros((1, 3))).shape == (1,)
    assert bundle.entries["gates"] == [{"name": "chi2", "passed": True}]
    assert read_bundle(folder / MANIFEST).path == folder


def test_without_a_common_grid_and_a_forest_both_are_absent(tmp_path):
    (tmp_path / NETWORK).write_bytes(b"a network")
    write_reference(tmp_path, None, None)
    card = {"name": "desi", "family": "spectral_vae"}
    seal_bundle(tmp_path, status=GOOD, num_pixels=5, preparation=PREPARATION, network={}, card=card)
    bundle = read_bundle(tmp_path)
    assert bundle.wavelength_aa is None
    assert bundle.forest is None


def test_every_damaged_file_is_named(folder):
    (folder / NETWORK).write_bytes(b"A network")
    with open(folder / REFERENCE, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match=rf"(?s){NETWORK}: other contents.*{REFERENCE}: .* bytes, should be"):
        read_bundle(folder)


def test_a_missing_file_is_named(folder):
    (folder / NETWORK).unlink()
    with pytest.raises(CheckpointError, match=f"{NETWORK}: missing"):
        read_bundle(folder)


def rewrite(folder, **changes):
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "no bundle here"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "not a bundle of hpctrain"),
        (lambda folder: rewrite(folder, format="zip"), "not a bundle of hpctrain"),
        (lambda folder: rewrite(folder, version=99), "version 99, this hpctrain reads 1 and 2; update hpctrain"),
        (lambda folder: rewrite(folder, files={}), "does not list"),
        (lambda folder: rewrite(folder, preparation={"windows_aa": []}), "is missing .*export it again"),
    ],
    ids=["absent", "torn", "other JSON", "other format", "newer", "no files", "no preparation"],
)
def test_what_is_no_bundle_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        read_bundle(folder)


def test_a_bundle_of_an_older_hpctrain_is_read(folder):
    rewrite(folder, version=1)
    assert read_bundle(folder).is_good


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no bundle here"):
        read_bundle(tmp_path / "model.onnx")
