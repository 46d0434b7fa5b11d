"""Lineage: which versions have seen a raw file or an object."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from registered_runs import finished_run

from hpctrain.cli import run_command
from hpctrain.profile.sections.data import SplitSection
from hpctrain.registry.add import add_run
from hpctrain.registry.seen import versions_with_file, versions_with_object
from hpctrain.samples.split import TRAIN, assign_split

NUM_OBJECTS = 60


@pytest.fixture
def run_of(runs, tmp_path):
    """Return a function that makes a finished run on a file of 60 spectra from 20 raw files."""

    def make(name, weight, first_id, start=None):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["flux"] = np.ones((NUM_OBJECTS, 8), np.float32)
            file["ivar"] = np.ones((NUM_OBJECTS, 8), np.float32)
            file["wavelength"] = np.linspace(4000.0, 5000.0, 8)
            file["redshift"] = np.full(NUM_OBJECTS, 0.1)
            file["target_id"] = first_id + np.arange(NUM_OBJECTS)
            file["source_file"] = (np.arange(NUM_OBJECTS) // 3).astype("i4")
            file["provenance/source_files"] = [f"/raw/{name}/spec-{number}.fits" for number in range(20)]
        run = finished_run(runs, weight)
        train = {"train": {"init_from": str(start.path)}} if start else {}
        run.profile.write_text(json.dumps({"name": "photoz", "data": {"files": [str(path)]}, **train}))
        run.provenance.write_text(json.dumps({"data": [{"path": str(path), "bytes": 1, "hashes": "not hashed"}]}))
        return run

    return make


def test_a_bad_exposure_is_followed_to_the_versions_that_trained_on_it(registry, run_of, tmp_path):
    first = run_of("a", 1.0, 0)
    add_run(first, "photoz", registry)
    add_run(run_of("b", 2.0, 1000), "photoz", registry)
    add_run(run_of("c", 3.0, 2000, start=first), "photoz", registry)
    (tmp_path / "a.h5").unlink()
    found = versions_with_file("/raw/a/spec-4.fits", registry)
    assert [(str(seen.version), seen.through and str(seen.through)) for seen in found] == [
        ("photoz:1", None),
        ("photoz:3", "photoz:1"),
    ]
    side = assign_split(np.array([12, 13, 14]), SplitSection())
    assert found[0].counts["training"] == np.count_nonzero(side == TRAIN)
    assert sum(found[0].counts.values()) == 3
    assert [str(seen.version) for seen in versions_with_file("spec-4.fits", registry)] == [
        f"photoz:{number}" for number in (1, 2, 3)
    ]
    assert sum(versions_with_file(str(tmp_path / "b.h5"), registry)[0].counts.values()) == NUM_OBJECTS
    assert versions_with_file("/raw/a/spec-99.fits", registry) == []


def test_a_file_that_the_job_made_itself_is_part_of_the_lineage(registry, run_of, tmp_path):
    run = run_of("a", 1.0, 0)
    run.provenance.write_text(json.dumps({"data": []}))
    add_run(run, "photoz", registry)
    [seen] = versions_with_file("a.h5", registry)
    assert sum(seen.counts.values()) == NUM_OBJECTS


def test_an_object_is_found_in_the_versions_that_have_seen_it(registry, run_of):
    add_run(run_of("a", 1.0, 0), "photoz", registry)
    add_run(run_of("b", 2.0, 1000), "photoz", registry)
    assert [str(seen.version) for seen in versions_with_object(1005, registry)] == ["photoz:2"]
    assert versions_with_object(5000, registry) == []


def test_the_command_answers_in_words_and_json_and_says_what_is_not_known(registry, run_of, runs, capsys):
    add_run(run_of("a", 1.0, 0), "photoz", registry)
    add_run(finished_run(runs, 2.0), "photoz", registry)
    where = ["--registry", str(registry.path)]
    assert run_command("registry", ["lineage", "--object", "7", *where]) == 0
    assert capsys.readouterr().out.startswith("photoz:1: 1 ")
    assert run_command("registry", ["lineage", "--file", "x.fits", *where]) == 0
    assert "no registered version is known to have seen x.fits" in capsys.readouterr().out
    assert run_command("registry", ["lineage", "--of", "photoz:1", *where]) == 0
    assert "sources 20 raw files" in capsys.readouterr().out
    assert run_command("registry", ["lineage", "--of", "photoz:2", "--json", *where]) == 0
    assert "the objects are not known" in json.loads(capsys.readouterr().out)["notes"][0]
