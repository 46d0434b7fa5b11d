"""A trial is chosen once: asking again, from two tasks at once or after a kill at any point, gives the same trial."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time

import pytest
from search_parts import end_trial

from hpctrain.profile.load import load_profile
from hpctrain.rundir import read_json
from hpctrain.search.ask import ask, main, why_not
from hpctrain.search.folder import write_once
from hpctrain.search.trials import read_trials


def test_a_trial_gets_a_run_directory_with_the_values_that_were_chosen(make_study):
    study = make_study()
    trial = study.trial(0)
    assert ask(trial, "17_0")
    values = read_json(trial.asked)["values"]
    profile = load_profile(trial.profile)
    assert profile.train.learning_rate == values["train.learning_rate"]
    assert profile.model.latent_size == values["model.latent_size"]
    job = trial.read_job()
    assert job["trainer"][-1] == "hpctrain.search.rank"
    assert [each["job_id"] for each in job["submissions"]] == ["17_0"]
    assert trial.provenance.exists()


def test_whatever_a_kill_left_unwritten_is_written_by_the_next_attempt(make_study):
    study = make_study()
    trial = study.trial(0)
    ask(trial, "17_0")
    written = {path: path.read_bytes() for path in (trial.asked, trial.provenance, trial.job, trial.profile)}
    for kept in range(1, len(written)):
        for path in list(written)[kept:]:
            path.unlink(missing_ok=True)
        (trial.path / ".trial.json.0123456789abcdef.tmp").write_text('{"numb')
        assert ask(trial, "17_0")
        assert trial.asked.read_bytes() == written[trial.asked]
        assert trial.profile.read_bytes() == written[trial.profile]
        assert [each["job_id"] for each in trial.read_job()["submissions"]] == ["17_0"]


def test_two_tasks_at_once_agree(make_study):
    study = make_study()
    barrier = threading.Barrier(2)

    def one():
        barrier.wait()
        ask(study.trial(0), None)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profile = load_profile(study.trial(0).profile)
    assert profile.train.learning_rate == read_json(study.trial(0).asked)["values"]["train.learning_rate"]


def test_of_many_writers_one_wins_and_all_know_it(tmp_path):
    path = tmp_path / "once.json"
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(write_once(path, {"writer": n}))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer == read_json(path) for answer in answers)
    assert os.listdir(tmp_path) == ["once.json"]


def test_a_full_disk_loses_no_trial(make_study, tiny_disk):
    study = make_study()
    trial = type(study.trial(0))(tiny_disk / "0")
    trial.path.mkdir()
    filler = tiny_disk / "filler"
    free = os.statvfs(tiny_disk)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_bsize))
    with pytest.raises(OSError, match="space"):
        write_once(trial.asked, {"number": 0, "values": {"a": "x" * 5000}})
    assert not trial.asked.exists()
    filler.unlink()
    assert write_once(trial.asked, {"number": 0}) == {"number": 0}


def test_a_trial_that_has_ended_has_nothing_left_to_do(make_study, capsys):
    study = make_study()
    end_trial(study, 3)
    assert main([str(study.trial(3).path)]) == 79
    assert "has ended already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"gpu_hours": 5.0}, "budget of 5 GPU hours is spent (6)"),
        ({"wall_time": "01:00:00"}, "wall time of 01:00:00 is over"),
        ({"until": "2020-01-01"}, "later than 2020-01-01"),
    ],
)
def test_after_the_budget_no_further_trial_starts(make_study, capsys, budget, reason):
    study = make_study(budget=budget)
    record = json.loads(study.record.read_text())
    study.record.write_text(json.dumps({**record, "submitted_at": time.time() - 7200}))
    for number in range(3):
        end_trial(study, number, gpu_hours=2.0)
    assert main([str(study.trial(3).path)]) == 79
    assert reason in capsys.readouterr().out
    assert not study.trial(3).asked.exists()


def test_a_trial_that_has_begun_goes_on_after_the_budget_and_after_stop(make_study):
    study = make_study(budget={"until": "2099-01-01"})
    assert ask(study.trial(0), None)
    study.stop.touch()
    assert ask(study.trial(0), None)
    assert not ask(study.trial(1), None)


def test_a_study_within_its_budget_goes_on(make_study):
    study = make_study(budget={"gpu_hours": 5.0, "wall_time": "10:00:00", "until": "2099-01-01T00:00"})
    assert why_not(study, study.section(), read_trials(study)) == ""


def test_a_damaged_study_is_said(make_study, capsys):
    study = make_study()
    study.study.write_text("name: [")
    assert main([str(study.trial(0).path)]) == 3
    assert "study.yaml: is missing or damaged" in capsys.readouterr().err


def test_a_trial_of_a_population_starts_from_the_weights_of_a_better_one(make_study):
    """Lineage 1 is the worst of four, so it goes on from the best with other values; lineage 0 with its own."""
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    study = make_study(sampler={"name": "pbt", "population": 4}, space=space)
    rates = [1e-3, 9e-3, 2e-3, 3e-3]
    for number, (score, rate) in enumerate(zip([1.0, 9.0, 2.0, 3.0], rates, strict=True)):
        end_trial(study, number, scores=[score], values={"train.learning_rate": rate})
        study.trial(number).model.mkdir()
        (study.trial(number).model / "model.safetensors").write_bytes(bytes([number]))
    assert ask(study.trial(5), None)
    assert ask(study.trial(4), None)
    changed, same = read_json(study.trial(5).asked), read_json(study.trial(4).asked)
    assert changed["system"] == {"parent": 0, "parent_sha256": hashlib.sha256(b"\0").hexdigest()}
    assert changed["values"]["train.learning_rate"] in (pytest.approx(0.8e-3), pytest.approx(1.25e-3))
    assert same["system"]["parent"] == 0
    assert same["values"] == {"train.learning_rate": 1e-3}
    assert load_profile(study.trial(5).profile).train.init_from == str(study.trial(0).path)
