"""A run that is cut, wherever and however often, ends with the bytes of one that nothing hit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_network import SMALL_NETWORK

from hpctrain.checkpoint.store import list_checkpoints, newest_whole
from hpctrain.errors import EXIT_RANKS_LOST
from hpctrain.rundir import RunDir

POLITE = {signal.SIGUSR2: 75, signal.SIGTERM: 75, signal.SIGINT: 130}
TOTAL_STEPS = 22
"""Three epochs of 232 spectra, 32 an update: epochs end within an update, the last update is not full."""

EVERYTHING = {
    "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "signal_lead_s": 5},
    "data": {
        "reader_threads": 1,
        "split": {"validation": 0.2},
        "augment": {"noise": 0.5, "mask_fraction": 0.2, "redshift_shift": 0.02},
    },
    "model": {**SMALL_NETWORK, "dropout": 0.2, "beta_warmup_steps": 10},
    "train": {
        "batch_size": 8,
        "accumulation": 4,
        "epochs": 3,
        "warmup_steps": 5,
        "log_every_steps": 1,
        "device": "cpu",
        "ema_decay": 0.9,
        "evaluate_every_steps": 5,
    },
    "checkpoint": {"every_steps": 4, "keep_last": 2},
    "track": {"tensorboard": False},
}
"""Dropout, noise, masks, redshift shifts, accumulation, moving averages; evaluations and checkpoints out of step."""

VARIANTS = {
    "fp32": {},
    "bf16": {"train": {"precision": "bf16"}},
    "early stopping": {
        "train": {"early_stopping": {"patience": 2, "min_delta": 1e3}, "evaluate_every_steps": 3, "ema_decay": None}
    },
    "no accumulation, evaluated each epoch": {
        "train": {"batch_size": 32, "accumulation": 1, "evaluate_every_steps": None, "gradient_checkpointing": True}
    },
}


def merged(base, change):
    """Return `base` with the keys of `change`."""
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in change.items()
    }


class Attempts:
    """Runs attempts in forks of one process that has imported everything."""

    def __init__(self, folder, spectra_file):
        self._folder, self._spectra_file = folder, spectra_file
        command = [sys.executable, str(Path(__file__).parent / "attempt_server.py")]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._server.stdout.readline() == "ready\n"
        self._straight = {}

    def new_run(self, variant="fp32", **changes):
        profile = merged(merged(EVERYTHING, VARIANTS[variant]), changes)
        profile = merged(profile, {"name": "exact", "data": {"files": [str(self._spectra_file)]}})
        run = RunDir.create(tempfile.mkdtemp(dir=self._folder), "exact")
        run.profile.write_text(yaml.safe_dump(profile))
        return run

    def attempt(self, run, world_size=1, **order):
        """Run one attempt and return the exit codes of its ranks."""
        order |= {"run": str(run.path), "world_size": world_size, "restart_count": len(run.read_attempts())}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def cut(self, run, number, step, world_size=1, rank=None):
        """Run an attempt that gets a signal in the update that would be number `step` of the run."""
        cut = {"signal": int(number), "at_update": step - newest_step(run)}
        return self.attempt(run, world_size, cut=cut if rank is None else {**cut, "rank": rank})

    def straight(self, variant="fp32", world_size=1, **changes):
        """Return a run of this kind that nothing hit; each kind is run once."""
        key = json.dumps([variant, world_size, changes])
        if key not in self._straight:
            run = self.new_run(variant, **changes)
            assert self.attempt(run, world_size) == [0] * world_size, log_of(run)
            self._straight[key] = run
        return self._straight[key]

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@pytest.fixture(scope="module")
def attempts(spectra_file, tmp_path_factory):
    made = Attempts(tmp_path_factory.mktemp("exact"), spectra_file)
    yield made
    made.close()


def newest_step(run):
    return list_checkpoints(run)[0][0] if list_checkpoints(run) else 0


def log_of(run):
    return "".join(path.read_text() for path in sorted(run.logs.glob("server-*.log")))


def was_killed(codes, rank):
    """Say whether a rank was killed and the other was killed with it, or had noticed."""
    return codes[rank] == -9 and codes[1 - rank] in (-9, EXIT_RANKS_LOST)


def records(run, kind):
    """Return what was measured at each step; a step that stands twice fails here."""
    found = {}
    for record in run.read_metrics(kind):
        assert record["step"] not in found, f"{kind} {record['step']} stands twice"
        timing = ("time", "attempt", "seconds", "samples_per_s", "memory_gib", "kind")
        found[record["step"]] = {name: value for name, value in record.items() if name not in timing}
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


@pytest.mark.parametrize("step", [1, 2, 5, 8, 9, 15, 16, TOTAL_STEPS])
def test_a_run_killed_in_an_update_with_half_the_gradients_accumulated_ends_with_the_same_bits(attempts, step):
    run = attempts.new_run()
    assert attempts.cut(run, signal.SIGKILL, step) == [-9]
    assert newest_step(run) <= step - 1
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(attempts.straight(), run)


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
    started = next(straight.read_metrics("event"))["time"] - straight.read_attempts()[0]["started_at"]
    finished = [record["time"] for record in straight.read_metrics("event")][-1]
    lasts_s = finished - straight.read_attempts()[0]["started_at"] + max(started, 0.1)
    draw = np.random.default_rng(7)
    run, kills = attempts.new_run(), 0
    while kills < 15:
        codes = attempts.attempt(run, kill_after_s=draw.uniform(0.0, 1.1 * lasts_s))
        assert codes in ([-9], [0]), log_of(run)
        kills += codes == [-9]
        assert newest_whole(run)[1] == []
        if codes == [0]:
            assert_same(straight, run)
            run = attempts.new_run()
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(straight, run)


def test_two_ranks_cut_by_every_kind_of_signal_end_with_the_same_bits(attempts):
    changes = {"launch": {"ranks_per_node": 2}, "train": {"accumulation": 2}}
    straight, run = attempts.straight(world_size=2, **changes), attempts.new_run(**changes)
    for step, number, rank in [(3, signal.SIGKILL, 1), (6, signal.SIGUSR2, 1), (11, signal.SIGTERM, None)]:
        codes = attempts.cut(run, number, step, 2, rank)
        assert codes == [75, 75] if number in POLITE else was_killed(codes, rank), log_of(run)
    assert was_killed(attempts.cut(run, signal.SIGKILL, 18, 2, 0), 0), log_of(run)
    assert attempts.attempt(run, 2) == [0, 0], log_of(run)
    assert_same(straight, run)


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
