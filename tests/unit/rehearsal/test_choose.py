"""Which step an autopsy looks into."""

from __future__ import annotations

import pytest

from hpctrain.errors import ProfileError
from hpctrain.metrics.read import History
from hpctrain.rehearsal.choose import choose_step, largest_spike
from hpctrain.rundir import RunDir


def falling(num):
    return [(step, 10.0 / step + 0.01 * (step % 3)) for step in range(1, num + 1)]


def test_the_largest_spike_is_measured_against_the_records_before_it():
    losses = falling(60)
    losses[40] = (41, 3.0)  # lower than the first losses, and yet a spike
    assert largest_spike(losses)[0] == 41


def test_too_few_losses_have_no_spike():
    assert largest_spike(falling(5)) is None


def history(*losses):
    return History(train=[{"kind": "train", "step": step, "loss": loss} for step, loss in losses])


def test_a_run_without_losses_asks_for_a_step(tmp_path):
    with pytest.raises(ProfileError, match="name a step"):
        choose_step(RunDir(tmp_path), history(), None)


def test_a_step_beyond_the_last_one_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="21 is not between 1 and 20"):
        choose_step(RunDir(tmp_path), history(*falling(20)), 21)
    assert choose_step(RunDir(tmp_path), history(*falling(20)), 20).step == 20


def test_a_curve_without_spikes_is_said_to_have_none(tmp_path):
    assert "no loss stands out" in choose_step(RunDir(tmp_path), history(*falling(60)), None).why
