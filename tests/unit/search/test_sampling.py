"""What Optuna is asked depends on the trials, the seed and the number alone, and its answers are in the space."""

from __future__ import annotations

import json
import math

import pytest
from search_parts import SPACE, section_of

from hpctrain.search.sampling import sample, study_of
from hpctrain.search.trials import DIVERGED, PRUNED, Trial
from hpctrain.states import FAILED, FINISHED, RUNNING

SAMPLERS = ("tpe", "random", "sobol", "gp", "cmaes", "nsga2", "nsga3")


def searched(section, num):
    """Return the trials of a search one at a time, on a bowl."""
    trials = []
    for number in range(num):
        values, system = sample(section, trials, number)
        json.dumps(system)
        score = math.log10(values["train.learning_rate"] / 1e-3) ** 2 + (values["model.latent_size"] - 4) ** 2
        trials.append(Trial(number, FINISHED, values, [score] * len(section.objectives), system=system))
    return trials


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(name):
    section = section_of(sampler={"name": name, "startup_trials": 3, "population": 3})
    first = [trial.values for trial in searched(section, 7)]
    assert first == [trial.values for trial in searched(section, 7)]
    assert first != [trial.values for trial in searched(section.model_copy(update={"seed": 1}), 7)]
    for values in first:
        assert 1e-4 <= values["train.learning_rate"] <= 1e-2
        assert values["model.latent_size"] in range(2, 7)
        assert values["model.dropout"] in ("0.0", "0.1")


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga2", "nsga3"])
def test_several_objectives_are_sampled(name):
    objectives = [{"metric": "loss", "direction": "minimize"}, {"metric": "gpu_hours", "direction": "minimize"}]
    section = section_of(objectives=objectives, sampler={"name": name, "startup_trials": 3, "population": 3})
    assert len(searched(section, 6)) == 6


def test_tpe_learns():
    scores = [trial.scores[0] for trial in searched(section_of(), 40)]
    assert sum(scores[30:]) < 0.6 * sum(scores[:10])


def test_a_grid_is_tried_in_order_and_ends():
    section = section_of(sampler={"name": "grid"}, space={"model.dropout": [0.0, 0.1], "model.latent_size": [2, 4]})
    points = [sample(section, [], number)[0] for number in range(4)]
    assert len({str(point) for point in points}) == 4
    with pytest.raises(IndexError):
        sample(section, [], 4)


def test_trials_keep_their_numbers_whatever_became_of_them():
    values = {"train.learning_rate": 1e-3, "model.latent_size": 3, "model.dropout": "0.1"}
    states = [FINISHED, FAILED, DIVERGED, RUNNING, PRUNED]
    trials = [
        Trial(number, state, values, [1.0] if state == FINISHED else None, [[1, 2.0]] if state == PRUNED else [])
        for number, state in enumerate(states)
    ]
    study = study_of(section_of(), [*trials, Trial(5), Trial(6, RUNNING, values)], before=5)
    names = [trial.state.name for trial in study.get_trials()]
    assert names[:5] == ["COMPLETE", "FAIL", "PRUNED", "RUNNING", "PRUNED"]


def test_one_running_trial_is_not_repeated_by_another():
    """TPE takes a trial that still runs for a bad one, or all tasks that start together would try the same."""
    section = section_of(space={"model.latent_size": SPACE["model.latent_size"]}, sampler={"startup_trials": 2})
    trials = [Trial(n, FINISHED, {"model.latent_size": 2 + n % 5}, [float((n % 5 - 2) ** 2)]) for n in range(20)]
    chosen = []
    for number in range(20, 32):
        values, system = sample(section, trials, number)
        trials.append(Trial(number, RUNNING, values, system=system))
        chosen.append(values["model.latent_size"])
    assert len(set(chosen)) > 1
