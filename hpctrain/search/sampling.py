"""What the next trial tries: by Optuna, on a study in memory that is made from the files of the trials.

Optuna's own storages are not used to keep a study: its journal tears when a writer is killed, and its databases lose
trials when they do not answer. Each choice depends on the seed of the study, the number of the trial and the trials
that have been read, and on nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpctrain.errors import SiteError
from hpctrain.search.evolution import evolve
from hpctrain.search.section import SamplerSection, StudySection
from hpctrain.search.space import Parameter, Space, Values
from hpctrain.search.trials import DIVERGED, PRUNED, WAITING, Trial, is_running
from hpctrain.states import FINISHED

if TYPE_CHECKING:
    import optuna

_MIX = 0x9E3779B97F4A7C15
"""The golden ratio as a fraction of 64 bits: neighbouring trials get seeds that have nothing in common."""


def sample(section: StudySection, trials: Sequence[Trial], number: int) -> tuple[Values, dict[str, Any]]:
    """Return the values that a trial gets, and what the sampler needs to remember with it.

    Parameters
    ----------
    section : StudySection
    trials : sequence of Trial
        All trials of the study, by number.
    number : int
        The trial to choose values for.

    Returns
    -------
    values : dict
    system : dict
        JSON values.

    Raises
    ------
    SiteError
        Optuna is not installed.
    IndexError
        The grid has fewer combinations.
    """
    space = Space.of(section.space)
    if section.sampler.name == "grid":
        return space.grid()[number], {}
    if section.sampler.name == "sobol":
        return space.pick(_Sobol(space, section.seed, number)), {}
    if section.sampler.name == "pbt":
        return evolve(section, trials, number, seed_of(section.seed, number))
    study = study_of(section, trials, before=number)
    study.sampler = _sampler(section.sampler, len(section.objectives), seed_of(section.seed, number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = study.ask()
        values = space.pick(_Asking(asked))
    system = study._storage.get_trial(asked._trial_id).system_attrs
    return values, {key: value for key, value in system.items() if not key.startswith("fixed_params")}


def study_of(section: StudySection, trials: Sequence[Trial], before: int) -> optuna.Study:
    """Return Optuna's study in memory with the trials before a number, and all others that have been asked.

    Trials that failed, were given back or do not exist yet keep their place as failed ones, which no sampler learns
    from, so that a trial has the same number here and there.
    """
    optuna = need_optuna()
    directions = [objective.direction or "minimize" for objective in section.objectives]
    study = optuna.create_study(directions=directions, study_name=section.name)
    distributions = distributions_of(Space.of(section.space))
    known = [trial for trial in trials if trial.number < before or trial.values]
    study.add_trials([_frozen(trial, distributions) for trial in known if trial.number != before])
    return study


def need_optuna() -> Any:
    """Return the module ``optuna``.

    Raises
    ------
    SiteError
        It is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise SiteError("a search needs Optuna: pip install 'hpctrain[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def seed_of(seed: int, number: int) -> int:
    """Return the seed for the choice of one trial, a pure function of the study's seed and the trial's number."""
    return ((seed + 1) * _MIX + number * 0xD1B54A32D192ED03) % 2**64 >> 33


def distributions_of(space: Space) -> dict[str, Any]:
    """Return Optuna's distribution of each parameter."""
    return {parameter.key: _distribution(parameter) for parameter in space.parameters}


def frozen_trial(trial: Trial, space: Space) -> Any:
    """Return Optuna's record of a trial."""
    return _frozen(trial, distributions_of(space))


def _distribution(parameter: Parameter) -> Any:
    optuna = need_optuna()
    section = parameter.section
    if section.choices is not None:
        return optuna.distributions.CategoricalDistribution(parameter.names)
    if section.is_whole:
        return optuna.distributions.IntDistribution(section.low, section.high, log=section.log, step=section.step or 1)
    return optuna.distributions.FloatDistribution(section.low, section.high, log=section.log, step=section.step)


def _frozen(trial: Trial, distributions: dict[str, Any]) -> Any:
    optuna = need_optuna()
    states = optuna.trial.TrialState
    state = states.FAIL
    if trial.state == FINISHED:
        state = states.COMPLETE
    elif trial.state in (PRUNED, DIVERGED):
        state = states.PRUNED  # without evaluations Optuna takes it for the worst
    elif is_running(trial) or (trial.state == WAITING and trial.values):  # some of its folds have been trained
        state = states.RUNNING
    values = {key: value for key, value in trial.values.items() if key in distributions}
    frozen = optuna.trial.create_trial(
        state=states.FAIL if state == states.RUNNING else state,
        values=trial.scores if state == states.COMPLETE else None,
        params=values,
        distributions={key: distributions[key] for key in values},
        intermediate_values={int(index): value for index, value in trial.evaluations},
        system_attrs=dict(trial.system),
    )
    if state == states.RUNNING:  # create_trial itself would want no parameters of a running one
        frozen.state, frozen.datetime_complete = state, None
    return frozen


def _sampler(section: SamplerSection, num_objectives: int, seed: int) -> Any:
    samplers = need_optuna().samplers
    if section.name == "random":
        return samplers.RandomSampler(seed=seed)
    if section.name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=section.startup_trials)
    if section.name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, n_startup_trials=section.startup_trials, consider_pruned_trials=True)
    if section.name == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=section.population)
    if section.name == "nsga3":
        return samplers.NSGAIIISampler(seed=seed, population_size=section.population)
    return samplers.TPESampler(
        seed=seed, n_startup_trials=section.startup_trials, multivariate=True, group=True, constant_liar=True
    )


class _Asking:
    """Lets a trial of Optuna choose."""

    def __init__(self, asked: Any) -> None:
        self._asked = asked

    def choose(self, parameter: Parameter) -> Any:
        section = parameter.section
        if section.choices is not None:
            return self._asked.suggest_categorical(parameter.key, parameter.names)
        if section.is_whole:
            return self._asked.suggest_int(
                parameter.key, section.low, section.high, log=section.log, step=section.step or 1
            )
        return self._asked.suggest_float(parameter.key, section.low, section.high, log=section.log, step=section.step)


class _Sobol:
    """A point of the scrambled Sobol sequence: a pure function of seed and number."""

    def __init__(self, space: Space, seed: int, number: int) -> None:
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(space.parameters), scramble=True, seed=seed)
        if number:
            sequence.fast_forward(number)
        keys = [parameter.key for parameter in space.parameters]
        self._shares = dict(zip(keys, map(float, sequence.random(1)[0]), strict=True))

    def choose(self, parameter: Parameter) -> Any:
        return parameter.at(self._shares[parameter.key])
