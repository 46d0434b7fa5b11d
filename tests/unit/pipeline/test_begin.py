"""What a stage that trains begins with: weights of the version in service, new data, a share of the old ones."""

from __future__ import annotations

import json
import os
import time

import h5py
import numpy as np
import pytest
import yaml
from registered_runs import finished_run

from hpctrain.errors import SiteError
from hpctrain.pipeline.begin import SEEN, begin
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.folder import PipelineDir
from hpctrain.pipeline.service import seen_objects
from hpctrain.pipeline.training import profile_of_stage
from hpctrain.registry.actions import promote, rollback
from hpctrain.registry.add import add_run
from hpctrain.registry.folder import Registry

NUM = 60


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nights").mkdir()
    return tmp_path


def night(name, first_id):
    """Write a file of 60 spectra; return its path."""
    path = os.path.abspath(f"nights/{name}.h5")
    with h5py.File(path, "w") as file:
        file["flux"] = np.ones((NUM, 8), np.float32)
        file["ivar"] = np.ones((NUM, 8), np.float32)
        file["wavelength"] = np.linspace(4000.0, 5000.0, 8)
        file["redshift"] = np.full(NUM, 0.1)
        file["target_id"] = first_id + np.arange(NUM)
    return path


def in_service(folder, path, weight):
    """Train on a file, as far as the registry can tell, and put the version into service."""
    run = finished_run(folder / "runs", weight)
    run.profile.write_text(json.dumps({"name": "photoz", "data": {"files": [path]}}))
    registry = Registry("registry")
    version = add_run(run, "photoz", registry).version
    promote(str(version), "champion", "a test", registry, force=True)
    return version


def begun(folder, files, **model):
    """Return what the training of a stage on these files begins with, and its folder."""
    (folder / "base.yaml").write_text(json.dumps({"name": "base", "data": {"files": ["nights/*.h5"]}, **model}))
    stage = {
        "name": "train",
        "profile": "base.yaml",
        "set": [f"data.files={json.dumps(files)}"],
        "start": {"weights": "registry:photoz@champion", "set": ["train.epochs=3"]},
        "replay": {"share": 0.5, "data": ["nights/*.h5"], "model": "photoz"},
    }
    (folder / "weekly.yaml").write_text(yaml.safe_dump({"name": "weekly", "stages": [stage]}))
    pipeline = PipelineDir(folder / "pipelines" / "weekly" / "one")
    pipeline.path.mkdir(parents=True, exist_ok=True)
    pipeline.write_section(read_pipeline("weekly.yaml"))
    pipeline.write_record(cluster="local", cwd=str(folder), started_at=time.time(), jobs={})
    directory = pipeline.stage("train")
    directory.make_folders()
    return begin(directory, profile_of_stage(directory, {})), directory.path


def test_without_a_version_in_service_it_trains_from_scratch_and_says_so(folder):
    path = night("one", 0)
    found, _ = begun(folder, [path])
    assert found.changes == [f"data.files={json.dumps([path])}"]
    assert found.notes == ["photoz has no champion yet; trains from scratch"]


def test_a_network_starts_from_the_version_in_service_on_new_objects_and_half_of_the_old_ones(folder):
    old = night("one", 0)
    version = in_service(folder, old, 1.0)
    new, later = night("two", 1000), night("three", 2000)
    found, path = begun(folder, [new])
    assert found.changes == [
        f"train.init_from={json.dumps(str(version.path))}",
        "train.epochs=3",
        f"data.replay={json.dumps({'share': 0.5, 'seen': str(path / SEEN)})}",
        f"data.files={json.dumps([new, old])}",
    ]
    assert np.load(path / SEEN).tolist() == list(range(NUM))
    assert found.notes[0] == "starts from the weights of photoz:1"
    assert found.notes[1] == "1 file with other objects that are not old left out", later


def test_trees_begin_anew_and_say_so(folder):
    in_service(folder, night("one", 0), 1.0)
    model = {"model": {"family": "trees", "labels": [{"column": "redshift", "kind": "value"}]}}
    (folder / "base.yaml").write_text("")
    with h5py.File("nights/two.h5", "w") as file:
        file["g"], file["redshift"] = np.arange(NUM, dtype=float), np.full(NUM, 0.1)
        file["target_id"] = 1000 + np.arange(NUM)
    os.remove("nights/one.h5")
    (folder / "nights/two.h5").rename("table.h5")
    data = {"data": {"files": ["table.h5"], "features": ["g"]}}
    found, _ = begun(folder, ["table.h5"], **model, **data)
    assert found.notes[0] == "trees learns in rounds and begins anew, on old and new data"
    assert not any(change.startswith("train.") for change in found.changes)


def test_objects_that_only_a_version_has_seen_that_was_rolled_back_are_new_again(folder):
    in_service(folder, night("one", 0), 1.0)
    in_service(folder, night("two", 1000), 2.0)
    registry = Registry("registry")
    model = registry.model("photoz")
    assert len(seen_objects(model, "champion")) == 2 * NUM
    rollback("photoz", "champion", "it looks odd", registry)
    assert seen_objects(model, "champion").tolist() == list(range(NUM))


def test_an_alias_that_was_moved_meanwhile_is_left_alone(folder):
    in_service(folder, night("one", 0), 1.0)
    second = in_service(folder, night("two", 1000), 2.0)
    with pytest.raises(SiteError, match="means version 2 now, and meant no version when version 1 was compared"):
        promote("photoz:1", "champion", "a test", second.model.registry, force=True, instead_of=None)
    assert promote("photoz:1", "champion", "a test", second.model.registry, force=True, instead_of=2).move.to == 1
