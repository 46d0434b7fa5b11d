"""Which spectra, seeds and learning rates a step uses are functions of the step, whatever the world size."""

import itertools

import numpy as np
import pytest

from hpctrain.errors import ProfileError
from hpctrain.profile.families import profile_class
from hpctrain.train.schedule import Schedule, mix


def schedule(num_train=1000, **train):
    gpus = train.pop("ranks", 4)
    return Schedule(
        profile_class()(
            name="x",
            launch={"gpus_per_node": 0, "ranks_per_node": gpus},
            data={"files": ["x.h5"]},
            train={"batch_size": 16, "accumulation": 2, "epochs": 3, **train},
        ),
        num_train,
    )


def test_every_spectrum_is_seen_once_an_epoch_and_none_is_lost_at_the_end():
    plan = schedule()
    seen = np.concatenate(
        [plan.samples(step, micro) for step in range(plan.total_steps) for micro in range(plan.num_micro_batches)]
    )
    assert plan.global_batch == 128
    assert len(seen) == 24 * 128
    real = seen[seen >= 0]
    assert (np.bincount(real) == 3).all()
    assert (seen[len(real) :] == -1).all(), "padding only at the very end"
    for epoch in range(3):
        assert len(set(real[epoch * 1000 : (epoch + 1) * 1000])) == 1000


def test_the_global_batch_is_the_profiles_whatever_the_world_size():
    plan = schedule()
    assert plan.num_micro_batches == 8
    assert [plan.accumulation(world) for world in (1, 2, 4, 8)] == [8, 4, 2, 1]
    with pytest.raises(ProfileError, match="3 ranks cannot share evenly; start 1, 2, 4, 8 ranks"):
        plan.accumulation(3)


def test_warm_up_rises_to_the_peak_and_the_cosine_ends_low():
    plan = schedule(epochs=100, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-5)
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-5, abs=2e-7)
    assert all(a <= b for a, b in itertools.pairwise(rates[:10]))
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_evaluations_come_once_an_epoch_or_every_so_many_steps_and_after_the_last():
    plan = schedule()
    due = [step for step in range(plan.total_steps + 1) if plan.evaluation_due(step)]
    assert due == [8, 16, 24]
    plan = schedule(evaluate_every_steps=10)
    assert [step for step in range(plan.total_steps + 1) if plan.evaluation_due(step)] == [10, 20, 24]


def test_max_steps_ends_a_run_early():
    assert schedule(max_steps=5).total_steps == 5
    assert schedule(max_steps=10**6).total_steps == 24


def test_seeds_of_neighbouring_micro_batches_do_not_resemble_each_other():
    seeds = {mix(1, step, micro) for step in range(100) for micro in range(100)}
    assert len(seeds) == 10**4
    assert all(0 <= seed < 2**63 for seed in seeds)
    bits = np.array([[(seed >> bit) & 1 for bit in range(63)] for seed in sorted(seeds)[:2000]])
    assert abs(bits[:, :40].mean() - 0.5) < 0.02
    assert mix(1, 2) != mix(2, 1)
