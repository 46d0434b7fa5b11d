"""What watches an attempt from outside of its ranks: ranks that are silent, and the end that nobody else tells."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from hpctrain.alerts.beside import START_UP_S, facts_from_outside, limits_of
from hpctrain.alerts.rules_progress import run_ended_badly, silent
from hpctrain.errors import EXIT_FINISHED
from hpctrain.launch.beside import MODULE, beside, command_beside
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.launch.status import describe
from hpctrain.monitor.raised import OF_JOB, read_raised
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.rundir import RunDir, write_json

BEGAN_S = 1.7e9
LIMITS = AlertsSection()
HEAR = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")


def beat(run, rank=0, at_s=BEGAN_S, state="training"):
    record = {"rank": rank, "attempt": 1, "time": at_s, "interval_s": 10.0, "state": state, "step": 40, "host": "n7"}
    write_json(run.heartbeat(rank), record)


def ended(followed, code, restart=0):
    return EndedAttempt(BEGAN_S, "17", restart, code, "none", "none", followed)


def facts(run, after_s):
    return facts_from_outside(run, "17", 0, LIMITS, BEGAN_S, BEGAN_S + after_s)


def test_ranks_that_are_silent_are_told_and_one_that_beats_is_enough(run):
    beat(run, 0, BEGAN_S + 20)
    beat(run, 1, BEGAN_S + 20)
    assert silent(facts(run, 30)).is_well
    assert silent(facts(run, 321)).text == "no rank has given a sign of life for 5 min 01 s (step 40)"
    beat(run, 1, BEGAN_S + 320)
    assert silent(facts(run, 321)).is_well


def test_a_start_may_take_its_time_and_heartbeats_of_earlier_attempts_do_not_count(run):
    beat(run, 0, BEGAN_S - 5000)
    assert silent(facts(run, START_UP_S)).is_well
    assert silent(facts(run, START_UP_S + 301)).is_bad


def test_ranks_that_have_finished_are_not_silent(run):
    beat(run, 0, BEGAN_S + 20, "finished")
    assert not silent(facts(run, 5000)).is_bad


@pytest.mark.parametrize(("followed", "is_bad"), [("failed", True), ("no-progress", True), ("requeued", False)])
def test_the_end_of_a_run_is_told_unless_another_attempt_follows(run, followed, is_bad):
    append_history(run, ended("requeued", 76, restart=1))
    assert run_ended_badly(facts(run, 5)).is_well
    append_history(run, ended(followed, 6))
    said = run_ended_badly(facts(run, 5))
    assert said.is_bad is is_bad
    assert not said.is_well


def test_the_command_tells_how_an_attempt_ends_and_takes_it_back_when_the_next_one_begins(run, tmp_path):
    heard = tmp_path / "heard.jsonl"
    alerts = {"command": [sys.executable, "-S", "-c", HEAR, str(heard)]}
    run.profile.write_text(yaml.safe_dump({"monitor": {"alerts": alerts}}))
    job = {"beside": [sys.executable, "-m", MODULE]}
    with beside(run, job, "17", 0, {}):
        append_history(run, ended("failed", 6))
    [shown] = describe(run).alerts
    assert (shown.alert, shown.severity) == ("run-ended-badly", "critical")
    with beside(run, job, "17", 1, {}):
        append_history(run, ended("finished", EXIT_FINISHED, restart=1))
    assert read_raised(run, OF_JOB) == []
    messages = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [(message["alert"], message["state"]) for message in messages] == [
        ("run-ended-badly", "raised"),
        ("run-ended-badly", "cleared"),
    ]
    assert messages[0]["seen"] == "the run has ended at step 0 with exit code 6 (failed)"


def test_there_is_a_command_only_if_somebody_would_hear_of_an_alert(run, monkeypatch):
    monkeypatch.delenv("HPCTRAIN_ALERT_WEBHOOK", raising=False)

    def command(**alerts):
        values = {"name": "a", "data": {"files": ["a.h5"]}, "monitor": {"alerts": alerts}}
        return command_beside(profile_class().model_validate(values), None, runs_images=False)

    assert command() == ()
    assert command(command=["/bin/true"])[-2:] == ("-m", MODULE)
    assert command(command=["/bin/true"], enabled=False) == ()
    monkeypatch.setenv("HPCTRAIN_ALERT_WEBHOOK", "https://chat.example.org/x")
    assert command()[-2:] == ("-m", MODULE)
    assert command(webhook_variable="OTHER_WEBHOOK") == ()
    with beside(run, {}, "17", 0, {}):
        pass


def test_a_profile_that_cannot_be_read_gives_the_default_limits(run):
    assert limits_of(run) == LIMITS
    run.profile.write_text("monitor: [1")
    assert limits_of(run) == LIMITS
    run.profile.write_text("monitor: {alerts: {silent_s: 40.0}}")
    assert limits_of(run).silent_s == 40.0
