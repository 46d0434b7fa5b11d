"""``hpctrain new`` proposes a profile that passes the check, from the columns of a file."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.cli import run_command
from hpctrain.families.proposal import likely_labels, look_at, possible_labels
from hpctrain.profile.load import load_profile

N = 200
RNG = np.random.default_rng(1)


def spectra(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["flux"] = RNG.normal(size=(N, 64)).astype(np.float32)
        file["ivar"] = np.ones((N, 64), np.float32)
        file["wavelength"] = np.linspace(3600.0, 9800.0, 64)
        file["target_id"] = np.arange(N)
        file["redshift"] = RNG.uniform(0, 3, N)
        file["spectype"] = np.where(np.arange(N) % 2, b"QSO", b"GALAXY")
        file["ra"], file["snr"] = RNG.uniform(0, 360, N), RNG.uniform(1, 9, N)
    return path


def images(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["image"] = RNG.normal(size=(N, 2, 16, 16)).astype(np.float32)
        file["target_id"] = np.arange(N)
        file["lens"] = np.arange(N) % 2
    return path


def light_curves(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["offsets"] = np.arange(N + 1) * 20
        file["time"] = np.tile(np.arange(20.0), N)
        file["value"] = RNG.normal(size=20 * N).astype(np.float32)
        file["error"] = np.ones(20 * N, np.float32)
        file["band"] = np.zeros(20 * N, np.int16)
        file["bands"] = ["g"]
        file["target_id"] = np.arange(N)
        file["class"] = np.where(np.arange(N) % 3, b"RRL", b"SN")
    return path


def table(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["objid"] = np.arange(N)
        for band in "ugriz":
            file[band], file[f"{band}_err"] = RNG.normal(20, 1, N), RNG.uniform(0, 1, N)
        file["ra"], file["zs"] = RNG.uniform(0, 360, N), RNG.uniform(0, 1, N)
    return path


@pytest.mark.parametrize(
    ("make", "family", "labels"),
    [
        (spectra, "spectral_cnn", {"spectype": "class", "redshift": "density"}),
        (images, "image_cnn", {"lens": "class"}),
        (light_curves, "light_curve_transformer", {"class": "class"}),
        (table, "trees", {"zs": "density"}),
    ],
)
def test_a_profile_for_a_file_of_each_kind_passes_the_check(make, family, labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("mine.h5"))
    assert run_command("new", ["mine.h5", "--yes"]) == 0
    profile = load_profile("mine.yaml")
    assert profile.model.family == family
    assert {label.column: label.kind for label in profile.model.labels} == labels
    assert run_command("new", ["mine.h5", "--yes"]) == 2, "nothing is overwritten"


def test_a_table_gives_features_and_their_errors_and_no_label_coordinate_or_identifier(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(Path("mine.h5"))
    assert run_command("new", ["mine.h5", "--yes", "-o", "trees.yaml", "--gpus", "0"]) == 0
    data = load_profile("trees.yaml").data
    assert sorted(data.features) == sorted("ugriz")
    assert data.errors == {band: f"{band}_err" for band in "ugriz"}
    assert run_command("new", ["mine.h5", "--yes", "--labels", "none", "--name", "groups"]) == 0
    assert load_profile("groups.yaml").model.family == "clusters"


def test_likely_labels_come_first_and_wrong_ones_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = look_at(spectra(Path("mine.h5")))
    assert possible_labels(found) == {"redshift": "density", "spectype": "class", "snr": "value"}
    assert likely_labels(found) == ["redshift", "spectype"]
    assert run_command("new", ["mine.h5", "--yes", "--labels", "specktype"]) == 4
    assert "has no column 'specktype'; there is ra, redshift" in capsys.readouterr().err
    assert run_command("new", ["mine.h5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "spectra"


def test_answers_typed_in_a_terminal_decide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(Path("mine.h5"))
    mine, terminal = pty.openpty()
    os.write(mine, b"r,zs\n2\n\n")  # two labels, two GPUs, no site
    with open(terminal, encoding="utf-8", closefd=True) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        run_command("new", ["mine.h5", "--family", "trees"])
    os.close(mine)
    profile = load_profile("mine.yaml")
    assert [label.column for label in profile.model.labels] == ["r", "zs"]
    assert profile.launch.gpus_per_node == 2
