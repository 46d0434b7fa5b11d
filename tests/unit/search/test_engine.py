"""Which engine runs a study, and which trial it starts next."""

from __future__ import annotations

import importlib.util
import json
import time

import pytest
import yaml
from families import TINY, profile_values
from search_parts import end_trial

from hpctrain.cli import main
from hpctrain.errors import SiteError
from hpctrain.search.folder import STOP_NOW
from hpctrain.search.numbers import OVER, NextNumber
from hpctrain.search.pool import POOL_MODULE, start_pool
from hpctrain.search.section import EngineSection
from hpctrain.search.study_file import read_study

STUDY = """\
name: searched
base: base.yaml
space: {train.learning_rate: {low: 1.0e-4, high: 1.0e-2}}
trials: 3
engine: ray
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a study for Ray."""
    tiny = TINY["spectral_vae"]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))))
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_engine_is_a_name_or_a_section(folder):
    assert read_study("study.yaml").section.engine == EngineSection(name="ray", address="auto")
    (folder / "study.yaml").write_text(STUDY.replace("ray", "{name: ray, address: 'head:6379'}"))
    assert read_study("study.yaml").section.engine.address == "head:6379"


@pytest.mark.parametrize(
    ("engine", "changes", "message"),
    [
        ("engine: {address: 'head:6379'}", [], "add engine.name: ray"),
        ("engine: {name: ray, address: 'http://head:10001'}", [], "such as auto, head:6379 or ray://head:10001"),
        ("engine: rya", [], "write target or ray"),
        ("engine: ray\nset: [launch.nodes=2]", [], "launch.nodes"),
        ("engine: ray", ["--cluster", "slurm"], "does not go with engine: ray"),
    ],
)
def test_what_ray_cannot_do_is_said_before_anything_is_written(folder, engine, changes, message, capsys):
    (folder / "study.yaml").write_text(STUDY.replace("engine: ray", engine))
    assert main(["search", "study.yaml", "--no-memory", *changes]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_a_missing_ray_is_named_with_its_extra_and_leaves_no_study(folder, capsys):
    assert main(["search", "study.yaml", "--no-memory"]) == SiteError.exit_code
    assert "pip install 'hpctrain[ray]'" in capsys.readouterr().err
    assert not list(folder.glob("runs/searched/*"))


def test_each_trial_is_given_out_once_and_those_that_ended_are_not(make_study):
    study = make_study(trials=4)
    end_trial(study, 1)
    numbers = NextNumber(study)
    assert [numbers.next() for _ in range(4)] == [0, 2, 3, OVER]


def test_a_trial_of_another_driver_is_waited_for(make_study):
    study = make_study(trials=1)
    trial = study.trial(0)
    (trial.path / "heartbeat").mkdir(parents=True)
    trial.asked.write_text(json.dumps({"number": 0, "values": {}, "system": {}, "asked_at": time.time()}))
    beat = {"rank": 0, "state": "training", "time": time.time(), "interval_s": 60.0, "host": "elsewhere"}
    (trial.path / "heartbeat/rank-0000.json").write_text(json.dumps(beat))
    numbers = NextNumber(study)
    assert numbers.next() is None
    (trial.path / "heartbeat/rank-0000.json").write_text(json.dumps({**beat, "time": 1.0}))
    assert numbers.next() == 0


def test_no_trial_is_given_out_once_the_study_is_stopped(make_study):
    study = make_study()
    numbers = NextNumber(study)
    assert numbers.next() == 0
    study.stop.write_text(STOP_NOW)
    assert numbers.next() == OVER


def test_why_no_trial_starts_is_what_the_process_has_said(make_study):
    study = make_study()
    study.study.write_text("name: [")
    with pytest.raises(SiteError, match=r"did not start: .*study\.yaml"):
        start_pool(study, POOL_MODULE.replace("pool", "ray_driver"))
