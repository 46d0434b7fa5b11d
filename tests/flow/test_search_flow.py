"""A study on this machine, from the command line to the profile of the best trial, through a kill of its pool."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from permissions import wrong_permissions
from processes import wait_until

from hpctrain.access import PRIVATE
from hpctrain.cli import main
from hpctrain.launch.runs import find_run
from hpctrain.launch.status import describe
from hpctrain.profile.load import load_profile
from hpctrain.rundir import file_digest
from hpctrain.search.folder import StudyDir, find_study
from hpctrain.search.measured import weights_of
from hpctrain.search.pool import pool_process
from hpctrain.search.trials import read_trials

STUDY = """\
name: searched
base: base.yaml
set: [launch.access=private]
space:
  train.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.latent_size: [2, 3]
objectives: [{metric: loss}, {metric: num_parameters}]
sampler: {name: nsga2, population: 3}
trials: 4
parallel: 2
"""


@pytest.fixture
def study(tmp_path, monkeypatch, warm_python) -> StudyDir:
    """A study that was submitted to this machine."""
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry").mkdir()
    assert main(["search", "study.yaml", "--cluster", "local", "--no-memory"]) == 0
    return find_study("searched", tmp_path / "runs")


def test_trials_outlive_their_pool_and_another_one_goes_on(study, capsys):
    wait_until(lambda: read_trials(study)[0].values, "the first trial")
    os.kill(pool_process(study), signal.SIGKILL)
    wait_until(lambda: pool_process(study) is None, "the end of the pool")
    assert main(["search", "resume", str(study.path)]) == 0
    wait_until(lambda: pool_process(study) is None, "the end of all trials")
    trials = read_trials(study)
    assert [trial.state for trial in trials] == ["finished"] * 4, capsys.readouterr()
    assert all(len(study.trial(trial.number).read_attempts()) == 1 for trial in trials)
    assert all(trial.gpu_hours > 0 for trial in trials)
    capsys.readouterr()
    assert main(["search", "best", "searched", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert main(["search", "best", "searched", "--out", "best.yaml"]) == 0
    assert load_profile("best.yaml").train.learning_rate == best["values"]["train.learning_rate"]
    assert main(["local", "best.yaml", "--set", "name=alone"]) == 0
    (alone,) = study.path.parents[1].glob("alone/*/model/model.safetensors")
    assert file_digest(alone) == file_digest(weights_of(study.trial(best["number"])))
    assert main(["search", "extend", "searched", "1"]) == 0
    wait_until(lambda: pool_process(study) is None, "the end of the fifth trial")
    assert [trial.state for trial in read_trials(study)] == ["finished"] * 5
    assert main(["search", "status", "searched"]) == 0
    assert "5 trials: 5 finished" in capsys.readouterr().out
    assert main(["search", "refit", "searched", "--no-memory", "--wait"]) == 0
    again = find_run("searched-refit", study.path.parents[1])
    assert load_profile(again.profile).data.split.validation == 0
    assert describe(again).state == "finished"
    assert main(["search", "stop", "searched", "--now"]) == 0
    lines = Path("registry/audit.jsonl").read_text().splitlines()
    recorded = [(entry["action"], Path(entry["subject"])) for entry in map(json.loads, lines)]
    assert recorded == [
        ("submit", study.path),
        ("resume", study.path),
        ("start", alone.parents[1]),
        ("extend", study.path),
        ("submit", again.path),
        ("stop", study.path),
    ]
    for each in (study.path, alone.parents[1], again.path):
        assert wrong_permissions(each, PRIVATE) == []
