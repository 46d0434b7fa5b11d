"""Resuming a run with other values, through the commands a user types and with the real trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from small_network import SMALL_NETWORK

from hpctrain.rundir import RunDir

STEPS = 8


@pytest.fixture(scope="session")
def types(hpctrain):
    return lambda folder, *words: hpctrain(*words, cwd=folder)


@pytest.fixture(scope="module")
def original(types, tmp_path_factory, spectra_file) -> Path:
    """A folder in which a run has finished."""
    folder = tmp_path_factory.mktemp("finished")
    profile = {
        "name": "small",
        "launch": {"gpus_per_node": 0, "cpus_per_rank": 1, "cluster": "local"},
        "data": {"files": [str(spectra_file)], "split": {"validation": 0.2}},
        "model": SMALL_NETWORK,
        "train": {"batch_size": 16, "epochs": 4, "max_steps": STEPS, "log_every_steps": 1, "device": "cpu"},
        "checkpoint": {"every_steps": 4},
        "track": {"tensorboard": False},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(profile))
    done = types(folder, "local", "small.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def finished(original, tmp_path) -> RunDir:
    """A copy of the run that has finished, below the folder of the test."""
    shutil.copytree(original / "runs", tmp_path / "runs")
    (path,) = (tmp_path / "runs" / "small").iterdir()
    return RunDir(path)


def contents(run: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


def changes(run: RunDir) -> list[dict]:
    return [record for record in run.read_metrics("event") if record["event"] == "profile_changed"]


def test_defaults_that_nobody_wrote_fit_a_small_run(finished):
    """500 steps of warm-up in a run of 8, two reader threads on one core: the defaults adapt."""
    profile = yaml.safe_load(finished.profile.read_text())
    assert profile["train"]["warmup_steps"] == STEPS // 10
    assert profile["data"]["reader_threads"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "--resume", "small"),
        ("submit", "--resume", "small", "--dry-run"),
        ("submit", "--resume", "small", "--set", "train.learning_rate=1e-5"),
        ("local", "--resume", "small"),
    ],
    ids=" ".join,
)
def test_resuming_a_finished_run_does_nothing_and_says_how_to_train_further(types, finished, tmp_path, words):
    before, status = contents(finished), types(tmp_path, "status", "small", "--json").stdout
    done = types(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert f"is finished at step {STEPS}; there is nothing to do" in done.stdout
    assert "--set train.max_steps=" in done.stdout
    assert contents(finished) == before
    after = json.loads(types(tmp_path, "status", "small", "--json").stdout)
    assert after["loss"] == json.loads(status)["loss"] is not None
    assert (after["state"], after["num_attempts"]) == ("finished", 1)


@pytest.mark.parametrize("door", [("submit", "--no-memory"), ("submit", "--dry-run"), ("local",)], ids=" ".join)
def test_a_change_that_does_not_fit_the_checkpoint_is_refused_at_every_door(types, finished, tmp_path, door):
    before = contents(finished)
    values = ["model.latent_size=2", "train.seed=9", "train.accumulation=2", "train.max_steps=5", "data.split.test=0.1"]
    done = types(tmp_path, *door, "--resume", "small", "--set", *values)
    assert done.returncode == 2, done.stdout
    for said in (
        "model.latent_size: is 3 in this run and cannot become 2",
        "train.seed: is 1 in this run and cannot become 9",
        "train.accumulation: would make the global batch 32, this run has 16",
        f"train.max_steps: makes 5 steps, but the run has done {STEPS} already",
        "data.split.test: is 0 in this run and cannot become 0.1",
        "start a new run from these weights with train.init_from",
    ):
        assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(finished) == before


def test_a_run_trains_further_and_its_records_say_what_was_changed(types, finished, tmp_path):
    more = ("local", "--resume", "small", "--set")
    done = types(tmp_path, *more, "train.max_steps=10", "train.learning_rate=5e-4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed at this resume (step 8): train.max_steps 8 → 10, train.learning_rate 0.001 → 0.0005" in done.stdout
    done = types(tmp_path, *more, "train.max_steps=12")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = changes(finished)
    assert (first["step"], first["attempt"]) == (8, 2)
    assert first["changes"] == [
        {"key": "train.max_steps", "old": 8, "new": 10},
        {"key": "train.learning_rate", "old": 0.001, "new": 0.0005},
    ]
    assert (second["step"], second["changes"]) == (10, [{"key": "train.max_steps", "old": 10, "new": 12}])
    steps = [record["step"] for record in finished.read_metrics("train")]
    assert steps == list(range(1, 13))
    warmup = yaml.safe_load(finished.profile.read_text())["train"]["warmup_steps"]
    assert warmup == STEPS // 10, "what the first attempt has settled stays"


def test_a_profile_that_was_edited_by_hand_is_named_in_one_line_and_can_be_put_right(types, finished, start, tmp_path):
    profile = finished.profile.read_text()
    finished.profile.write_text(
        profile.replace("latent_size: 3", "latent_size: 2").replace("max_steps: 8", "max_steps: 9")
    )
    ranks = start(finished)
    assert ranks.wait() == [5], ranks.stderr
    (line,) = [line for line in ranks.stderr.splitlines() if line.startswith("hpctrain: /")]
    assert "model.latent_size is 2, was 3; resume it with --set model.latent_size=3" in line
    refused = types(tmp_path, "submit", "--resume", "small")
    assert refused.returncode == 2
    assert "model.latent_size: is 3 in this run and cannot become 2" in refused.stderr
    good = types(tmp_path, "submit", "--resume", "small", "--dry-run", "--set", "model.latent_size=3")
    assert good.returncode == 0, good.stderr
