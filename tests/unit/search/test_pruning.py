"""Bad trials end early and good ones do not: the decisions are those of Optuna's pruners."""

from __future__ import annotations

import random

import optuna
import pytest
from search_parts import section_of

from hpctrain.search.pruning import bracket_of, is_hopeless
from hpctrain.search.trials import PRUNED, Trial
from hpctrain.states import FINISHED, RUNNING

optuna.logging.set_verbosity(optuna.logging.ERROR)
PRUNERS = {
    "median": (
        {"name": "median", "startup_trials": 3, "min_evaluations": 2},
        lambda: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
    ),
    "halving": (
        {"name": "halving", "min_evaluations": 1, "reduction_factor": 3},
        lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    ),
    "hyperband": (
        {"name": "hyperband", "min_evaluations": 1, "reduction_factor": 3, "max_evaluations": 12},
        lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=12, reduction_factor=3),
    ),
}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", PRUNERS)
def test_a_study_of_sixty_trials_is_pruned_as_optuna_prunes_it(name, direction):
    values, make_pruner = PRUNERS[name]
    section = section_of(name="x", pruner=values, objectives=[{"metric": "loss", "direction": direction}])
    study = optuna.create_study(study_name="x", direction=direction, pruner=make_pruner())
    draw = random.Random(3)
    ours: list[Trial] = []
    num_pruned = 0
    for number in range(60):
        theirs = study.ask()
        level, curve = draw.uniform(0, 2), []
        for index in range(1, 13):
            value = level + draw.uniform(0.5, 1.5) / index
            curve.append([index, -value if direction == "maximize" else value])
            theirs.report(curve[-1][1], index)
            expected = theirs.should_prune()
            assert is_hopeless(section, [*ours, Trial(number, RUNNING, {}, None, curve)], number) == expected
            if expected:
                break
        num_pruned += expected
        state = PRUNED if expected else FINISHED
        ours.append(Trial(number, state, {}, [curve[-1][1]], curve))
        if expected:
            study.tell(theirs, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(theirs, curve[-1][1])
    assert 10 < num_pruned < 60


def test_hyperband_has_brackets_of_about_the_same_cost():
    section = section_of(pruner=PRUNERS["hyperband"][0])
    brackets = [bracket_of(section, 12, number) for number in range(3000)]
    shares = [brackets.count(bracket) / 3000 for bracket in range(3)]
    assert shares[0] > shares[1] > shares[2] > 0.1


def test_a_trial_whose_objective_is_no_number_ends():
    section = section_of(pruner=PRUNERS["median"][0])
    assert is_hopeless(section, [Trial(0, RUNNING, {}, None, [[1, float("nan")]])], 0)


def test_the_evaluation_before_the_first_step_judges_nobody():
    section = section_of(pruner=PRUNERS["halving"][0])
    trials = [Trial(0, FINISHED, {}, [1.0], [[0, 1.0], [1, 1.0]]), Trial(1, RUNNING, {}, None, [[0, 99.0]])]
    assert not is_hopeless(section, trials, 1)


def test_without_a_pruner_nothing_ends_early():
    trials = [Trial(0, FINISHED, {}, [1.0], [[1, 1.0]]), Trial(1, RUNNING, {}, None, [[1, 99.0]])]
    assert not is_hopeless(section_of(), trials, 1)
