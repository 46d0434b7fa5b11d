"""However long the history of a run, status and report need the memory of a short one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from hpctrain.launch.lastwords import read_last_words
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.metrics.thinned import MOST, Thinned
from hpctrain.report.caveats import caveats_of
from hpctrain.report.curves import loss_figure, recorded_losses
from hpctrain.report.gather import gather_facts
from hpctrain.rundir import RunDir

NUM_RECORDS = 200_000
HEADROOM_MIB = 96
"""More than a short history needs; a reader that kept all records would need several times as much."""
LIMITED = """
import resource, sys
from hpctrain.launch.status import describe
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.rundir import RunDir
describe(RunDir(sys.argv[1])), read_history(RunDir(sys.argv[1]))  # imports what is imported late
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
status, history = describe(RunDir(sys.argv[2])), read_history(RunDir(sys.argv[2]))
print(status.step, history.step, history.best_evaluation(Objective())["step"])
"""


def line(kind, step, **fields):
    record = {"kind": kind, "step": step, "time": 1.8e9 + step, "attempt": 1, **fields}
    return json.dumps(record, separators=(",", ":")) + "\n"


def write_long(run, num_records=NUM_RECORDS, spike_at=77_777):
    """Write a history with one spike of the loss and one evaluation that is the best."""
    padding = "x" * 200
    with open(run.metrics, "w") as stream:
        stream.write(line("event", 0, event="started", total_steps=num_records))
        for step in range(1, num_records + 1):
            loss = 1e6 if step == spike_at else 1 + 1 / step
            stream.write(
                f'{{"kind":"train","step":{step},"time":{1.8e9 + step},"attempt":1,"loss":{loss},"grad_norm":0.5,'
                f'"samples_per_s":64.0,"note":"{padding}"}}\n'
            )
            if step % 1000 == 0:
                stream.write(line("eval", step, loss=0.1 if step == 5000 else 1.0))


@pytest.mark.slow
def test_a_long_history_is_read_in_the_memory_of_a_short_one(tmp_path):
    short, long = RunDir.create(tmp_path, "short"), RunDir.create(tmp_path, "long")
    short.metrics.write_text(line("event", 0, event="started") + line("train", 1, loss=1.0))
    write_long(long)
    assert long.metrics.stat().st_size > HEADROOM_MIB << 19
    command = [sys.executable, "-c", LIMITED, str(short.path), str(long.path), str(HEADROOM_MIB << 20)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(NUM_RECORDS), str(NUM_RECORDS), "5000"]


@pytest.mark.slow
def test_a_thinned_history_keeps_spikes_the_best_evaluation_and_the_ends_of_attempts(tmp_path):
    run = RunDir.create(tmp_path, "run")
    write_long(run, num_records=40_000, spike_at=7_777)
    with open(run.metrics, "a") as stream:
        stream.write(line("event", 40_000, attempt=2, event="started"))
        stream.writelines(line("train", step, loss=1.0) for step in range(40_001, 40_003))
    history = read_history(run)
    steps = [record["step"] for record in history.train]
    assert len(steps) < MOST + 2000
    assert steps == sorted(steps)
    assert {1, 40_000} <= set(steps)
    assert 7_777 in {record["step"] for record in [*history.train, *history.extremes]}
    assert history.best_evaluation(Objective())["step"] == 5000


@pytest.mark.slow
def test_a_thinned_history_keeps_the_best_evaluation_of_any_objective(tmp_path):
    run = RunDir.create(tmp_path, "run")
    with open(run.metrics, "w") as stream:
        for step in range(1, 2 * MOST + 1):
            f1 = {5000: 0.8, 5002: 0.9}.get(step, 0.5)
            stream.write(line("eval", step, loss=1.0, f1=f1))
            if f1 > 0.5:
                stream.write(line("event", step, event="best", f1=f1))
        stream.write(line("event", 5003, event="best", f1=0.95))  # of a step that was lost, with its evaluation
    history = read_history(run)
    assert len(history.evaluations) < 2 * MOST
    assert 5000 not in {record["step"] for record in history.evaluations}
    assert history.best_evaluation(Objective("f1", lower_is_better=False))["step"] == 5002


@pytest.mark.slow
def test_the_loss_chart_shows_a_spike_between_the_records_that_are_kept(tmp_path):
    run = RunDir.create(tmp_path, "run")
    write_long(run, num_records=40_000, spike_at=7_778)
    history = read_history(run)
    assert 7_778 not in {record["step"] for record in history.train}
    steps, losses = recorded_losses(history)
    assert losses[steps == 7_778] == [1e6]
    facts = gather_facts(run)
    assert "10⁶" in loss_figure(facts)  # the axis reaches up to the spike
    assert "10⁶" not in loss_figure(replace(facts, history=replace(history, extremes=[])))


@pytest.mark.slow
def test_records_with_numbers_that_are_not_finite_are_counted_before_any_is_left_out(tmp_path):
    run = RunDir.create(tmp_path, "run")
    with open(run.metrics, "w") as stream:
        stream.write(line("event", 0, event="started", total_steps=40_000))
        stream.writelines(line("train", step, loss=None, nonfinite=["loss"]) for step in range(1, 40_001))
    history = read_history(run)
    assert len(history.train) < 40_000
    assert history.num_nonfinite == 40_000
    assert any("40\u202f000 records have numbers that are not finite" in text for text in caveats_of(gather_facts(run)))


def test_few_records_are_all_kept():
    thinned = Thinned(json.loads)
    for number in range(MOST):
        thinned.add(number, json.dumps(number).encode(), 1, None)
    assert thinned.records() == list(range(MOST))
    assert thinned.extremes() == []


def test_one_endless_line_is_skipped(tmp_path):
    run = RunDir.create(tmp_path, "run")
    run.metrics.write_text(line("train", 1, loss=1.0) + "x" * 5_000_000 + "\n" + line("train", 2, loss=0.5))
    assert [record["step"] for record in read_history(run).train] == [1, 2]
    assert read_last_words(run).step == 2
