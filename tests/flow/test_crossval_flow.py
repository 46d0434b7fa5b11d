"""A cross-validation on this machine, plain and nested: each object is predicted by a model that has not seen it."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import yaml
from families import TINY, profile_values
from processes import wait_until

from hpctrain.cli import main
from hpctrain.profile.load import load_profile
from hpctrain.samples.split import assign_folds
from hpctrain.search.folder import find_study
from hpctrain.search.nested import read_nested
from hpctrain.search.pool import pool_process

SEARCH = """\
name: searched
base: base.yaml
space: {model.min_leaf: [2, 4]}
sampler: {name: grid}
trials: 2
parallel: 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, warm_python):
    """A folder with a small profile of trees, and a search over it."""
    tiny = TINY["trees"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**values, "name": "forest"}))
    (tmp_path / "search.yaml").write_text(SEARCH)
    (tmp_path / "own.yaml").write_text(SEARCH.replace("base:", "folds: 3\nbase:"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_object_is_predicted_by_the_fold_that_held_it_out(folder, capsys):
    asked = ["crossval", "base.yaml", "--folds", "3", "--parallel", "2", "--cluster", "local", "--no-memory", "--wait"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "mean of folds  standard error" in said
    study = find_study("forest-crossval", folder / "runs")
    found = json.loads((study.path / "crossval.json").read_text())
    assert (found["folds"], found["repeats"], len(found["runs"])) == (3, 1, 3)
    with h5py.File(study.path / "out_of_fold.h5") as file, h5py.File("data.h5") as data:
        ids, folds = file["target_id"][:], file["FOLD"][:]
        assert len(np.unique(ids)) == len(ids) == len(data["target_id"])
    split = load_profile(study.run(0, study.section()).profile).data.split
    assert np.array_equal(folds, assign_folds(ids, split))
    for task in found["tasks"].values():
        for metric in task["metrics"].values():
            known = [value for value in metric["values"] if value is not None]
            assert metric["mean"] is None or metric["mean"] == pytest.approx(np.mean(known))
    assert main(["crossval", str(study.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == found["tasks"]


def test_a_nested_one_tests_the_winner_of_each_search_on_the_fold_it_never_saw(folder, capsys):
    assert main(["crossval", "search.yaml", "--folds", "3", "--cluster", "local", "--no-memory"]) == 0
    (path,) = (folder / "runs" / "searched-nested").iterdir()
    nested = read_nested(path)
    for study in nested.studies:
        wait_until(lambda study=study: pool_process(study) is None, "the end of a search")
    capsys.readouterr()
    assert main(["crossval", str(path)]) == 0
    assert "fold 2: 2 of 2 finished" in capsys.readouterr().out
    assert main(["crossval", str(path), "--test"]) == 0
    tested = read_nested(path).tested
    wait_until(lambda: pool_process(tested) is None, "the end of the tests")
    assert main(["crossval", str(path)]) == 0
    with h5py.File(tested.path / "out_of_fold.h5") as file, h5py.File("data.h5") as data:
        ids, folds = file["target_id"][:], file["FOLD"][:]
        assert len(ids) == len(data["target_id"])
    for fold, study in enumerate(nested.studies):
        split = load_profile(study.run(0, study.section()).profile).data.split
        assert split.test_fold == fold
        assert np.array_equal(assign_folds(ids, split) == fold, folds == fold)
        assert load_profile(tested.trial(fold).profile).data.split.test_fold == fold


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which profile? hpctrain crossval profiles/trees.yaml --folds 5"),
        (["no.yaml"], "there is no such file"),
        (["nothing"], "there is no study 'nothing'"),
        (["base.yaml", "--by", "time", "--column", "MJD", "--repeats", "2"], "2 repeats of folds by time"),
        (["base.yaml", "--by", "field"], "field needs data.split.column"),
        (["search.yaml", "--folds", "2"], "2: a nested cross-validation needs 3 or more"),
        (["own.yaml"], "line 2: folds: a nested cross-validation makes the outer and the inner folds"),
    ],
)
def test_what_cannot_be_cross_validated_is_told_in_one_message(folder, capsys, words, message):
    assert main(["crossval", *words, "--no-memory"]) in (2, 3)
    assert message in capsys.readouterr().err
