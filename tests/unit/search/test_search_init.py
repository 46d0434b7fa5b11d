"""The study files that ``hpctrain search init`` writes: the usual space of each family, without a problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hpctrain.cli import main
from hpctrain.plugins import FAMILIES
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.search.spaces import SPACES
from hpctrain.search.study_file import check_study, read_study

REPOSITORY = Path(__file__).resolve().parents[3]
OTHERS = ("search", "pipeline")
PROFILES = [path for path in sorted((REPOSITORY / "profiles").glob("*.yaml")) if path.stem not in OTHERS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")  # its first bytes are all a check reads
    (tmp_path / "runs/desi-vae/1/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_shipped_family_has_a_usual_space():
    assert SPACES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_usual_space_of_a_shipped_profile_has_no_problem(folder, path, capsys):
    (folder / "runs/desi-vae/1/profile.yaml").write_text(dump_profile(load_profile(path)))
    assert main(["search", "init", str(path), "--out", "study.yaml", "--hours", "3"]) == 0, capsys.readouterr().err
    study = read_study("study.yaml")
    assert study.section.budget.gpu_hours == 3.0
    assert check_study(study, memory=False).profile == load_profile(path)


def test_boosting_is_tried_where_it_can_learn_the_labels(folder):
    classes = "model.labels=[{column: class, kind: class}]"
    path = str(REPOSITORY / "profiles/trees.yaml")
    assert main(["search", "init", path, "--out", "study.yaml", "--set", classes, "model.trees_per_round=40"]) == 0
    section = check_and_read("study.yaml")
    assert section.space["model.method"].choices == ["forest", "boosting"]
    assert section.space["model.learning_rate"].when == {"model.method": "boosting"}
    assert section.space["model.trees"].step == 40


def check_and_read(path):
    study = read_study(path)
    check_study(study, memory=False)
    return study.section


def test_weights_of_another_run_leave_the_shape_of_the_network(folder):
    (folder / "runs/desi-vae/1/profile.yaml").write_text(dump_profile(load_profile(REPOSITORY / "profiles/hpc.yaml")))
    assert main(["search", "init", str(REPOSITORY / "profiles/jetson.yaml"), "--out", "study.yaml"]) == 0
    assert set(read_study("study.yaml").section.space) == {
        "train.learning_rate",
        "train.weight_decay",
        "model.dropout",
    }


def test_a_family_of_ones_own_competes_with_the_shipped_one(folder, monkeypatch):
    own = "from hpctrain.families.trees.family import Trees\n\n\nclass Own(Trees):\n    name = 'ours.trees'\n\n\n"
    (folder / "ours").mkdir()
    (folder / "ours/trees.py").write_text(own + "FAMILY = Own()\n")
    monkeypatch.syspath_prepend(folder)
    path = str(REPOSITORY / "profiles/trees.yaml")
    assert main(["search", "init", path, "--out", "study.yaml", "--families", "trees,ours.trees"]) == 0
    section = check_and_read("study.yaml")
    choices = section.space["model"].choices
    assert list(choices) == ["trees", "ours.trees"]
    assert [label["column"] for label in choices["ours.trees"]["labels"]] == ["class", "redshift"]
    assert section.space["model.min_leaf"].when == {"model": "trees"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--families", "trees"], "trees learns from catalogue, but the profile has spectra"),
        (["--families", "spectral_cnn,spectral_vae"], "spectral_vae learns no labels"),
        (["--families", "spectral_cn"], "spectral_cn"),
        (["--hours", "0"], "--hours: 0 is not above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(folder, capsys, words, said):
    path = str(REPOSITORY / "profiles/spectral-cnn.yaml")
    assert main(["search", "init", path, "--out", "study.yaml", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path("study.yaml").exists()


def test_a_file_that_exists_is_not_overwritten(folder, capsys):
    Path("study.yaml").write_text("mine")
    assert main(["search", "init", str(REPOSITORY / "profiles/trees.yaml"), "--out", "study.yaml"]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert Path("study.yaml").read_text() == "mine"


def test_each_line_of_the_space_says_why(folder):
    assert main(["search", "init", str(REPOSITORY / "profiles/trees.yaml"), "--out", "study.yaml"]) == 0
    text = Path("study.yaml").read_text()
    lines = text.partition("space:\n")[2].splitlines()
    assert lines
    assert all(re.search(r" # \w+", line) for line in lines)
    assert set(yaml.safe_load(text)["space"]) == {line.split(":")[0].strip() for line in lines}
