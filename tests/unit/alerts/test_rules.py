"""Each rule on a moment that suffers, on one that is well, and on one that says nothing."""

from __future__ import annotations

import typing

import pytest

from hpctrain.alerts.facts import Disk, Facts, RankNow
from hpctrain.alerts.rules import RULES
from hpctrain.alerts.tape import FEWEST, KEPT, SETTLED, Tape
from hpctrain.metrics.events import CheckpointFailed, CheckpointSaved
from hpctrain.metrics.exporters.series import ALL
from hpctrain.profile.sections.alerts import AlertName, AlertsSection

JUDGES = {rule.name: rule.judge for rule in RULES}
GIB = 2**30


def taped(losses=(), step_s=1.0, rates=None, skipped=(), evaluations=(), event=None):
    """Return the tape of records that come every `step_s` seconds."""
    tape = Tape()
    tape.first_step = 0
    for index, loss in enumerate(losses):
        extra = {"skipped": index in skipped, "samples_per_s": rates[index] if rates else 100.0}
        tape.take({"kind": "train", "step": index + 1, "time": 1e9 + index * step_s, "loss": loss, **extra})
    for index, value in enumerate(evaluations):
        tape.take({"kind": "eval", "step": 10 * index, "time": 1e9, "loss": value})
    if event is not None:
        tape.take(event.at(100).whole_record())
    tape.catch_up()
    return tape


def noisy(number, level=1.0):
    """Return losses around a level, as far from it as steps of training are from each other."""
    return [level + 0.02 * ((7 * index) % 5 - 2) for index in range(number)]


SAVED = CheckpointSaved.from_record({"bytes": GIB})
FAILED = CheckpointFailed.from_record({"error": "No space left on device"})
RISING = [1.0, 0.5, 0.3, *(0.5 + 0.01 * index for index in range(12))]
FALLING = [1.0 / (1 + index) for index in range(15)]

BAD = {
    "idle-gpu": Facts(ranks=[RankNow(0, "a", 90.0), RankNow(1, "b", 3.0)]),
    "too-hot": Facts(ranks=[RankNow(0, "a", 90.0, heat_share=0.6)]),
    "loss-spike": Facts(tape=taped([*noisy(40), 5.0])),
    "useless-steps": Facts(tape=taped(noisy(FEWEST), skipped={1, 3, 5, 7, 9})),
    "metric-worse": Facts(tape=taped(evaluations=RISING), best_value=0.3, evaluations_since_best=12),
    "no-progress": Facts(tape=taped(noisy(10)), silent_s=301.0),
    "slow-steps": Facts(tape=taped(noisy(60), rates=[100.0] * 48 + [40.0] * 12)),
    "checkpoint-late": Facts(tape=taped(event=FAILED), step=10),
    "disk-nearly-full": Facts(
        tape=taped(event=SAVED), disks=[Disk("the run directory", "/r", 2 * GIB - 1, 100 * GIB, is_run=True)]
    ),
    "failing-node": Facts(strikes={"node7": 2}),
    "silent": Facts(beat_age_s=301.0),
    "run-ended-badly": Facts(ended="failed", exit_code=6),
}
WELL = {
    "idle-gpu": Facts(ranks=[RankNow(0, "a", 90.0), RankNow(1, "b", 21.0)]),
    "too-hot": Facts(ranks=[RankNow(0, "a", 90.0)]),
    "loss-spike": Facts(tape=taped([*noisy(40), 5.0, *noisy(20)])),
    "useless-steps": Facts(tape=taped(noisy(FEWEST), skipped={1})),
    "metric-worse": Facts(tape=taped(evaluations=FALLING), best_value=FALLING[-1]),
    "no-progress": Facts(tape=taped(noisy(10)), silent_s=1.0),
    "slow-steps": Facts(tape=taped(noisy(60))),
    "checkpoint-late": Facts(tape=taped(event=SAVED), step=1000),
    "disk-nearly-full": Facts(tape=taped(event=SAVED), disks=[Disk("the run directory", "/r", 4 * GIB, 100 * GIB)]),
    "failing-node": Facts(strikes={"node7": 1}),
    "silent": Facts(beat_age_s=9.0),
    "run-ended-badly": Facts(),
}  # fmt: skip
UNKNOWN = {
    "idle-gpu": [Facts(), Facts(state="staging", ranks=[RankNow(0, "a", 0.0)]), Facts(ranks=[RankNow(0, "a", 15.0)])],
    "no-progress": [Facts(silent_s=1e6), Facts(state="finishing", tape=taped(noisy(10)), silent_s=1e6)],
    "useless-steps": [Facts(tape=taped(noisy(FEWEST - 1), skipped=set(range(19))))],
    "metric-worse": [Facts(tape=taped(evaluations=[0.3] * 15), best_value=0.3, evaluations_since_best=14)],
    "checkpoint-late": [Facts(tape=taped(event=SAVED), step=2500)],
    "silent": [Facts()],
    "run-ended-badly": [Facts(ended="requeued"), Facts(ended="terminated"), Facts(ended="finished")],
}


def test_profile_rules_and_examples_name_the_same_alerts():
    assert list(typing.get_args(AlertName)) == [rule.name for rule in RULES] == list(BAD) == list(WELL)


@pytest.mark.parametrize("name", JUDGES)
def test_a_rule_finds_what_it_is_for_and_is_content_with_what_is_well(name):
    said = JUDGES[name](BAD[name])
    assert said.is_bad
    assert not said.is_well
    assert said.text
    assert said.value is not None
    said = JUDGES[name](WELL[name])
    assert said.is_well
    assert not said.is_bad


@pytest.mark.parametrize(("name", "facts"), [(name, each) for name, listed in UNKNOWN.items() for each in listed])
def test_a_rule_leaves_things_as_they_are_where_it_cannot_know(name, facts):
    said = JUDGES[name](facts)
    assert not said.is_bad
    assert not said.is_well


def test_limits_of_the_profile_move_the_rules():
    strict = AlertsSection(idle_gpu_percent=95.0, disk_free_gib=8.0, no_progress_s=0.5, no_progress_steps=2.0)
    assert JUDGES["idle-gpu"](Facts(strict, ranks=WELL["idle-gpu"].ranks)).is_bad
    assert JUDGES["disk-nearly-full"](Facts(strict, disks=WELL["disk-nearly-full"].disks)).is_bad
    assert JUDGES["no-progress"](Facts(strict, tape=taped(noisy(10)), silent_s=2.5)).is_bad


def test_few_free_files_count_as_a_full_disk_and_a_file_system_without_a_limit_does_not():
    disk = Disk("the copies of the data", "/scratch", 900 * GIB, 1000 * GIB, free_files=12)
    assert "/scratch) has room for 12 more files" in JUDGES["disk-nearly-full"](Facts(disks=[disk])).text
    assert JUDGES["disk-nearly-full"](Facts(disks=[Disk("x", "/s", 900 * GIB, 1000 * GIB)])).is_well


def test_a_loss_that_falls_steeply_or_is_negative_has_no_spike():
    for losses in ([100.0 * 0.9**index for index in range(300)], noisy(300, -1.0), [0.0] * 100):
        assert not JUDGES["loss-spike"](Facts(tape=taped(losses))).is_bad


def test_a_loss_that_stays_high_is_a_spike_until_it_is_the_usual_one():
    high = [*noisy(40), *noisy(SETTLED - 1, 9.0)]
    said = JUDGES["loss-spike"](Facts(tape=taped(high)))
    assert said.is_bad
    assert "was 8.96 at step 41, with 1 as the usual value" in said.text
    assert JUDGES["loss-spike"](Facts(tape=taped([*high, *noisy(KEPT, 9.0)]))).is_well


def test_what_three_attempts_without_a_checkpoint_have_in_common_is_named():
    facts = Facts(barren_attempts=3, barren_node="node7")
    assert (
        JUDGES["failing-node"](facts).text == "3 attempts in a row ended without a new checkpoint, all of them on node7"
    )
    assert JUDGES["failing-node"](Facts(barren_attempts=3, tape=taped(event=SAVED))).is_well


def test_rules_of_prometheus_use_only_metrics_that_the_exporter_has():
    import re

    names = {each.name for each in ALL.values()}
    for rule in RULES:
        expression = rule.promql(AlertsSection())
        assert expression, rule.name
        assert set(re.findall(r"hpctrain_\w+", expression)) <= names
