"""``hpctrain autopsy`` and ``hpctrain lr-find`` on real runs, with something bad planted in the data."""

from __future__ import annotations

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
import yaml
from families import TINY

BAD_ROW, BAD_PIXEL = 17, 150
BAD_ID = 1000 + BAD_ROW


def contents(run):
    """Return a hash of every file of a run directory."""
    files = sorted(path for path in run.path.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def broken_file(tmp_path, spectra_file):
    """The small data set with one flux that makes the loss infinite."""
    path = tmp_path / "broken.h5"
    shutil.copy(spectra_file, path)
    with h5py.File(path, "r+") as file:
        file["flux"][BAD_ROW, BAD_PIXEL] = 1e30
    return path


@pytest.mark.slow
def test_the_object_and_the_pixel_that_end_a_run_of_two_ranks_are_named(
    make_run, start, hpctrain, broken_file, tmp_path
):
    run = make_run(data={"files": [str(broken_file)], "split": {"validation": 0.0}}, launch={"ranks_per_node": 2})
    ranks = start(run, 2)
    assert set(ranks.wait()) == {6}
    assert f"hpctrain autopsy {run.path}" in ranks.stderr
    before, out = contents(run), tmp_path / "out"
    done = hpctrain("autopsy", run.path, "--without", "culprits", "--steps", 10, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert contents(run) == before
    found = json.loads(done.stdout)
    diverged = next(record for record in run.read_metrics("event") if record["event"] == "diverged")
    assert found["step"] == diverged["step"]
    assert found["culprits"] == [BAD_ID]
    assert found["objects"][0]["row_of_file"] == BAD_ROW
    assert found["objects"][0]["carriers"][0]["index"] == [BAD_PIXEL]
    assert found["from_checkpoint"] is None
    assert found["agreement"]["compared"] == found["step"] - 1
    assert found["agreement"]["is_good"]
    assert any("2 ranks" in doubt for doubt in found["possible_differences"])
    assert found["curves"]["with"][-1]["loss"] == "inf"
    assert found["curves"]["with"][-1]["step"] == found["step"]
    assert len(found["curves"]["without"]) == 10
    assert all(np.isfinite(float(point["loss"])) for point in found["curves"]["without"])
    page = (out / "autopsy.html").read_text()
    assert str(BAD_ID) in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_wrong_label_that_makes_the_loss_jump_is_named(make_run, start, hpctrain, spectra_file, tmp_path):
    path = tmp_path / "labelled.h5"
    shutil.copy(spectra_file, path)
    slope = np.random.default_rng(3).normal(size=300).astype(np.float32)
    slope[BAD_ROW] = 1e5
    with h5py.File(path, "r+") as file:
        file["slope"] = slope
    model = {**TINY["spectral_cnn"].model, "labels": [{"column": "slope", "kind": "value"}]}
    run = make_run(data={"files": [str(path)], "split": {"validation": 0.0}}, train={"epochs": 1})
    profile = yaml.safe_load(run.profile.read_text()) | {"model": model}
    run.profile.write_text(yaml.safe_dump(profile))
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    losses = {record["step"]: record["loss"] for record in run.read_metrics("train")}
    step = max(losses, key=losses.get)
    done = hpctrain("autopsy", run.path, "--step", step, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["culprits"] == [BAD_ID]
    assert found["objects"][0]["labels"]["slope"]["height"] > 1000
    assert found["agreement"]["largest"] <= found["agreement"]["allowed"]


@pytest.mark.slow
def test_the_same_profile_gives_the_same_sweep_and_no_run(make_run, hpctrain, tmp_path):
    run = make_run("profile")
    before = contents(run)
    sweeps = []
    for name in ("one", "two"):
        out = tmp_path / name
        done = hpctrain("lr-find", run.profile, "--steps", 20, "--from", "1e-4", "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        sweeps.append(json.loads(done.stdout))
    assert sweeps[0] == sweeps[1]
    assert sweeps[0]["rates"][0] == pytest.approx(1e-4)
    assert np.diff(np.log(sweeps[0]["rates"])) == pytest.approx(np.log(1e4) / 19)
    assert contents(run) == before
    assert "Smith 2017" in (tmp_path / "one" / "lr-find.html").read_text()
