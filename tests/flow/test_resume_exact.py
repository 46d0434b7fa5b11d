"""A run that is cut, wherever and however often, ends with the bytes of one that nothing hit."""

from __future__ import annotations

import gzip
import json
import shutil
import signal

import numpy as np
import pytest
from attempts import TOTAL_STEPS, VARIANTS, log_of, merged, newest_step
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpctrain.checkpoint.store import read_checkpoint, write_checkpoint
from hpctrain.checkpoint.whole import list_checkpoints, newest_whole
from hpctrain.errors import EXIT_RANKS_LOST
from hpctrain.traces.summary import summarise_trace
from hpctrain.traces.words import read_summaries
from hpctrain.verify.compare import CLOCK_FIELDS

POLITE = {signal.SIGUSR2: 75, signal.SIGTERM: 75, signal.SIGINT: 130}


def was_killed(codes, rank):
    """Say whether a rank was killed and the other was killed with it, or had noticed."""
    return codes[rank] == -9 and codes[1 - rank] in (-9, EXIT_RANKS_LOST)


def records(run, kind):
    """Return what was measured at each step; a step that stands twice fails here."""
    found = {}
    for record in run.read_metrics(kind):
        assert record["step"] not in found, f"{kind} {record['step']} stands twice"
        found[record["step"]] = {name: value for name, value in record.items() if name not in {*CLOCK_FIELDS, "kind"}}
    return found


def assert_same(straight, run):
    for kind in ("train", "eval"):
        assert records(straight, kind) == records(run, kind)
    name = "model.safetensors"
    assert (straight.model / name).read_bytes() == (run.model / name).read_bytes()
    last, path = list_checkpoints(run)[0]
    reference = dict(list_checkpoints(straight))[last]
    for file in sorted(path.glob("*.safetensors")):  # moments, averages and loss scale too
        assert file.read_bytes() == (reference / file.name).read_bytes(), file.name
    assert not list(run.checkpoints.glob(".*"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_cut_after_every_single_update_ends_with_the_same_bits(attempts, variant):
    straight, run = attempts.straight(variant), attempts.new_run(variant)
    last = max(records(straight, "train"))
    for step in range(1, last + 1):
        codes = attempts.cut(run, signal.SIGUSR2, step)
        assert codes in ([75], [0]), log_of(run)
        assert newest_whole(run) == (step, [])
        if codes == [0]:
            break
    attempts.attempt(run)
    assert_same(straight, run)


def test_a_checkpoint_of_an_older_version_is_resumed_with_its_best_evaluation(attempts):
    straight, run = attempts.straight("early stopping"), attempts.new_run("early stopping")
    assert attempts.cut(run, signal.SIGUSR2, 7) == [75], log_of(run)
    step, folder = list_checkpoints(run)[0]
    tensors, state = read_checkpoint(folder)
    state["progress"]["best_loss"] = state["progress"].pop("best_value")
    shutil.rmtree(folder)
    write_checkpoint(run, step, tensors, state, attempt=1)
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(straight, run)


@pytest.mark.parametrize("steps", [(1, 2, 5, 8, 9), (15, 16, TOTAL_STEPS)])
def test_a_run_killed_in_updates_with_half_the_gradients_accumulated_ends_with_the_same_bits(attempts, steps):
    """A trace of its steps cannot be written either, which costs the trace and not the run."""
    run = attempts.new_run(train={"profile_steps": [3, 4]})
    run.traces.write_text("in the way")
    for step in steps:
        assert attempts.cut(run, signal.SIGKILL, step) == [-9]
        assert newest_step(run) <= step - 1
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(attempts.straight(), run)
    reasons = [event["reason"] for event in run.read_metrics("event") if event["event"] == "not_traced"]
    assert str(run.traces) in reasons[0]
    assert reasons[-1].startswith("this attempt began after step")


CUTS = st.lists(st.tuples(st.integers(1, TOTAL_STEPS), st.sampled_from([*POLITE, signal.SIGKILL])), max_size=5)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=CUTS, variant=st.sampled_from(list(VARIANTS)))
@example(cuts=[(TOTAL_STEPS, signal.SIGTERM)], variant="fp32")
@example(cuts=[(1, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGINT)], variant="bf16")
@example(cuts=[(15, signal.SIGUSR2), (16, signal.SIGKILL), (16, signal.SIGKILL)], variant="fp32")
def test_any_sequence_of_cuts_ends_with_the_same_bits(attempts, cuts, variant):
    run = attempts.new_run(variant)
    for step, number in sorted(cuts):
        if step <= newest_step(run):
            continue
        codes = attempts.cut(run, number, step)
        assert codes in ([POLITE.get(number, -number)], [0]), log_of(run)  # 0: stopped early, before the cut
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(attempts.straight(variant), run)


def test_kills_at_random_microseconds_from_the_start_to_the_finish_end_with_the_same_bits(attempts):
    """In the start-up, in updates, evaluations and saves, and while the finished model is written."""
    straight = attempts.straight()
    lasts_s = seconds_of_last_attempt(straight)
    draw = np.random.default_rng(7)
    run, kills = attempts.new_run(), 0
    while kills < 15:
        codes = attempts.attempt(run, kill_after_s=draw.uniform(0.0, 1.1 * lasts_s))
        assert codes in ([-9], [0]), log_of(run)
        kills += codes == [-9]
        assert newest_whole(run)[1] == []
        if codes == [0]:
            assert_same(straight, run)
            # The first run may have been slow on a busy machine, and later kills would then all come too late.
            lasts_s = min(lasts_s, seconds_of_last_attempt(run))
            run = attempts.new_run()
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(straight, run)


def seconds_of_last_attempt(run):
    """Return how long the last attempt of a finished run took, and a little more for its end."""
    last = run.read_attempts()[-1]
    times = [record["time"] for record in run.read_metrics("event") if record["attempt"] == last["attempt"]]
    return times[-1] - last["started_at"] + max(times[0] - last["started_at"], 0.1)


def test_two_ranks_cut_by_every_kind_of_signal_end_with_the_same_bits(attempts):
    """The cut run also records steps, before and after a cut; the other one does not."""
    changes = {"launch": {"ranks_per_node": 2}, "train": {"accumulation": 2}}
    traced = merged(changes, {"train": {"profile_steps": [10, 14], "profile_ranks": "all"}})
    straight, run = attempts.straight(world_size=2, **changes), attempts.new_run(**traced)
    for step, number, rank in [(3, signal.SIGKILL, 1), (6, signal.SIGUSR2, 1), (11, signal.SIGTERM, None)]:
        codes = attempts.cut(run, number, step, 2, rank)
        assert codes == [75, 75] if number in POLITE else was_killed(codes, rank), log_of(run)
    assert was_killed(attempts.cut(run, signal.SIGKILL, 18, 2, 0), 0), log_of(run)
    assert attempts.attempt(run, 2) == [0, 0], log_of(run)
    assert_same(straight, run)
    assert_traced(run)
    waits = [record for record in run.read_metrics("train") if "peer_wait_share" in record]
    assert {record["slowest_rank"] for record in waits} <= {0, 1}
    assert all(0 < record["exchange_share"] + record["peer_wait_share"] <= 1 for record in waits)
    assert not any("peer_wait_share" in record for record in attempts.straight().read_metrics("train"))


def assert_traced(run):
    """The cut after step 11 discarded a trace of its attempt, and the next attempt recorded its own steps."""
    assert sorted(path.name for path in run.traces.iterdir()) == [
        f"rank-000{rank}.{name}" for rank in (0, 1) for name in ("summary.json", "trace.json.gz")
    ]
    for rank, found in enumerate(read_summaries(run)):
        assert (found["rank"], found["first_step"], found["last_step"]) == (rank, 12, 14)
        assert {"loader", "prepare", "forward", "backward", "exchange", "optimiser", "between"} <= set(found["parts"])
        assert sum(found["parts"].values()) == pytest.approx(found["seconds"])
        assert len(found["kernels"]) == 10
        with gzip.open(run.traces / found["trace"]) as stream:
            assert summarise_trace(json.load(stream)["traceEvents"])["parts"] == found["parts"]
    assert [event["last_step"] for event in run.read_metrics("event") if event["event"] == "traced"] == [14]


@pytest.mark.parametrize("worlds", [(1, 2, 1), (2, 1), (4, 2)])
def test_a_run_goes_on_with_other_numbers_of_ranks(attempts, worlds):
    """The same global batches and random numbers per micro-batch: only the order of summation changes."""
    straight, run = attempts.straight(), attempts.new_run()
    steps = [6, 13][: len(worlds) - 1]
    for world_size, step in zip(worlds, steps, strict=False):
        assert attempts.cut(run, signal.SIGUSR2, step, world_size) == [75] * world_size, log_of(run)
    assert attempts.attempt(run, worlds[-1]) == [0] * worlds[-1], log_of(run)
    for kind in ("train", "eval"):
        ours, theirs = records(run, kind), records(straight, kind)
        assert ours.keys() == theirs.keys()
        for step in ours:
            assert ours[step]["loss"] == pytest.approx(theirs[step]["loss"], rel=1e-4)
            assert ours[step].get("samples_seen") == theirs[step].get("samples_seen")
    started = [record for record in run.read_metrics("event") if record["event"] == "started"]
    assert [record["world_size"] * record["accumulation"] for record in started] == [4] * len(worlds)


def test_a_number_of_ranks_that_does_not_divide_the_update_is_refused_and_told_what_fits(attempts):
    run = attempts.new_run()
    assert attempts.cut(run, signal.SIGUSR2, 5) == [75]
    assert 2 in attempts.attempt(run, 3)
    assert "4 micro-batches of 8 spectra, which 3 ranks cannot share evenly; start 1, 2, 4 ranks" in log_of(run)
    assert attempts.attempt(run, 2) == [0, 0]
