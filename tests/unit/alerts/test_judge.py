"""The thread that looks at a run: what it records and tells, until the very end; and an error that costs one look."""

from __future__ import annotations

import json
import sys

import pytest

from hpctrain.alerts.facts import Facts
from hpctrain.alerts.judge import Judge
from hpctrain.alerts.messenger import Messenger
from hpctrain.alerts.rules import RULES
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.raised import OF_JOB, OF_TRAINER, forget, read_raised
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.rundir import RunDir

HEAR = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
BAD = Facts(strikes={"node7": 2}, step=7)


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")


def judge_of(run, look, *command):
    limits = AlertsSection(command=list(command), check_every_s=3600.0)
    metrics = MetricsWriter(run, 1)
    return Judge(run, limits, RULES, OF_TRAINER, look, metrics.event, {"host": "n7"}, Messenger(limits, {}))


def test_a_finished_run_takes_back_what_is_raised_and_everybody_hears_it(run, tmp_path):
    heard = tmp_path / "heard.jsonl"
    judge = judge_of(run, lambda: BAD, sys.executable, "-S", "-c", HEAR, str(heard))
    with judge:
        judge.check()
        judge.check()
        assert [one.alert for one in read_raised(run)] == ["failing-node"]
        judge.end()
        judge.clear_all("the training is finished", 9)
    assert read_raised(run) == []
    events = [(record["event"], record["step"]) for record in run.read_metrics("event")]
    assert events == [("alert", 7), ("alert_cleared", 9)]
    messages = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [(message["state"], message["host"]) for message in messages] == [("raised", "n7"), ("cleared", "n7")]


def test_an_error_in_a_look_is_printed_once_and_the_next_look_goes_on(run, capsys):
    facts = [None, None, BAD]
    judge = judge_of(run, lambda: facts.pop(0))
    for _ in range(3):
        judge.check()
    assert capsys.readouterr().err.count("alerts cannot be judged") == 1
    assert [one.alert for one in read_raised(run)] == ["failing-node"]


def test_what_was_raised_from_outside_is_forgotten_when_a_rank_trains_again(run):
    judge = judge_of(run, lambda: BAD)
    judge.check()
    forget(run, OF_JOB)
    assert len(read_raised(run, OF_TRAINER)) == 1
    forget(run, OF_TRAINER)
    assert read_raised(run) == []
