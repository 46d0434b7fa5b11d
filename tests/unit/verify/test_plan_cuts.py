"""The cuts are drawn by seed, and neither a signal nor a part of an attempt is left out."""

from __future__ import annotations

import json

import pytest

from hpctrain.rundir import RunDir
from hpctrain.verify.phases import Follower
from hpctrain.verify.plan import CUTS, KILL_ALL, PLACES, Pace, plan_cuts

PACE = Pace(3.0, 0.1, 0.5, 0.05, 2.0, 40, evaluated=(8, 16, 24, 32, 40), saved=(5, 10, 15, 20, 25, 30, 35, 40))


@pytest.mark.parametrize("num_cuts", [1, 2, 3, 8, 30])
def test_a_plan_is_a_function_of_its_seed_and_kills_all_ranks_in_an_update_at_least_once(num_cuts):
    plans = [plan_cuts(num_cuts, seed, PACE) for seed in range(50)]
    assert plans == [plan_cuts(num_cuts, seed, PACE) for seed in range(50)]
    assert all(len(plan) == num_cuts for plan in plans)
    assert all((KILL_ALL, "update") in [(aim.how, aim.place) for aim in plan] for plan in plans)
    assert len({tuple(plan) for plan in plans}) == 50


@pytest.mark.parametrize("seed", range(50))
def test_of_eight_cuts_every_signal_and_every_place_gets_one(seed):
    plan = plan_cuts(8, seed, PACE)
    assert {aim.how for aim in plan} == set(CUTS)
    assert {aim.place for aim in plan} == set(PLACES)


@pytest.mark.parametrize("seed", range(10))
def test_of_24_cuts_every_pair_of_signal_and_place_gets_one_that_can_be(seed):
    found = {(aim.how, aim.place) for aim in plan_cuts(24, seed, PACE)}
    missing = {(how, place) for how in CUTS for place in PLACES} - found
    assert missing == {(how, "finish") for how in CUTS if "KILL" not in how}


@pytest.mark.parametrize("seed", range(50))
def test_the_run_goes_on_from_cut_to_cut_and_is_not_over_before_the_last(seed):
    plan = plan_cuts(12, seed, PACE)
    assert [aim.step for aim in plan] == sorted(aim.step for aim in plan)
    assert all(1 <= aim.step <= PACE.last_step and 0 <= aim.share < 1 for aim in plan)
    for aim in plan:
        assert aim.is_kill or aim.step < PACE.last_step


def test_a_run_of_one_step_without_evaluation_can_be_cut_too():
    pace = Pace(1.0, 0.0, 0.0, 0.0, 1.0, 1, evaluated=(), saved=(1,))
    plan = plan_cuts(8, 1, pace)
    assert {aim.how for aim in plan} == set(CUTS)
    assert "evaluation" not in {aim.place for aim in plan}


def test_the_phase_is_read_from_what_an_attempt_has_left(tmp_path):
    run = RunDir.create(tmp_path, "twins", "cut")
    seen = Follower(run, attempt=2)

    def write(kind, step, attempt=2, **fields):
        with open(run.metrics, "a") as stream:
            stream.write(json.dumps({"kind": kind, "step": step, "attempt": attempt, **fields}) + "\n")

    write("train", 7, attempt=1)
    assert seen.phase(PACE) == "imports, rendezvous"
    (run.attempts / "0002.json").write_text("{}")
    assert seen.phase(PACE) == "start: data, checkpoint"
    write("event", 6, event="started")
    assert seen.phase(PACE) == "first step, 7"
    write("train", 7)
    with open(run.metrics, "a") as stream:
        stream.write('{"kind": "train", "st')  # being written this moment
    assert seen.phase(PACE) == "step 8"
    with open(run.metrics, "a") as stream:
        stream.write('ep": 8, "attempt": 2}\n')
    assert seen.phase(PACE) == "evaluation after step 8"
    write("eval", 8)
    assert seen.phase(PACE) == "step 9"
    (run.checkpoints / ".step-00000010.0002.99").mkdir()
    assert seen.phase(PACE) == "save of step 10"
    (run.checkpoints / ".step-00000010.0002.99").rmdir()
    write("train", 40)
    write("eval", 40)
    assert seen.phase(PACE) == "save of step 40"
    (run.checkpoints / "step-00000040").mkdir()
    assert seen.phase(PACE) == "writing of the model"
    write("event", 40, event="finished")
    assert seen.phase(PACE) == "report"


def test_records_that_an_attempt_takes_back_are_not_followed(tmp_path):
    run = RunDir.create(tmp_path, "twins", "cut")
    (run.attempts / "0002.json").write_text("{}")
    line = '{"kind": "eval", "step": %d, "attempt": 1}\n'
    run.metrics.write_text(line % 8 + line % 16)
    seen = Follower(run, attempt=2)
    seen.update()
    assert seen.evaluated == {8, 16}
    (tmp_path / "new").write_text(line % 8)
    (tmp_path / "new").replace(run.metrics)
    seen.update()
    assert seen.evaluated == {8}
