"""Population-based training: trials go on from the weights of better ones, with changed values.

A trial is one stretch of training. Trial ``n`` belongs to lineage ``n % population``. It goes on from the newest model
of its lineage, or, where that one is among the worst quarter, from one of the best quarter, with values nearby.

References
----------
Jaderberg et al. 2017, "Population Based Training of Neural Networks", arXiv:1711.09846
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hpctrain.search.ranking import ranked
from hpctrain.search.section import StudySection
from hpctrain.search.space import AtRandom, Parameter, Space, Values
from hpctrain.search.trials import Trial

PARENT = "parent"
"""What a trial remembers: the number of the trial whose weights it starts from."""
_QUARTER = 4
_FACTORS = (0.8, 1.25)
"""A number is multiplied by one of these; a value of a list moves to a neighbour."""
_CHANGE_CHOICE = 0.25
"""Probability that a choice is drawn anew."""
KEEPS_SHAPES = ("train.", "data.augment", "model.dropout")
"""Keys that may vary: the weights of one trial must fit into the next one."""


def evolve(section: StudySection, trials: Sequence[Trial], number: int, seed: int) -> tuple[Values, dict[str, Any]]:
    """Return the values of a trial, and the trial whose weights it starts from.

    Parameters
    ----------
    section : StudySection
    trials : sequence of Trial
        All trials by number.
    number : int
    seed : int
        Seed of this trial's choices.

    Returns
    -------
    values : dict
    system : dict
        The parent; empty in the first generation, and while no trial has finished.
    """
    space, draw, population = Space.of(section.space), random.Random(seed), section.sampler.population
    order = ranked(section, _newest_of_each_lineage(trials[:number], population))
    if number < population or not order:
        return space.pick(AtRandom(draw)), {}
    best, worst = order[: -(-len(order) // _QUARTER)], order[len(order) - len(order) // _QUARTER :]
    own = next((trial for trial in order if trial.number % population == number % population), None)
    if own is not None and own not in worst:
        return dict(own.values), {PARENT: own.number}
    donor = draw.choice(best)
    return space.pick(_Nearby(donor.values, draw)), {PARENT: donor.number}


def _newest_of_each_lineage(trials: Sequence[Trial], population: int) -> list[Trial]:
    newest = {trial.number % population: trial for trial in trials if trial.scores is not None and trial.is_sealed}
    return list(newest.values())


class _Nearby:
    """Changes the values of another trial a little."""

    def __init__(self, values: Values, draw: random.Random) -> None:
        self._values, self._draw = values, draw

    def choose(self, parameter: Parameter) -> Any:
        value = self._values.get(parameter.key)
        if value is None or (parameter.section.choices is not None and self._draw.random() < _CHANGE_CHOICE):
            return parameter.at(self._draw.random())
        if parameter.section.choices is not None:
            return value
        if (levels := parameter.levels()) is not None:
            place = levels.index(value) + self._draw.choice((-1, 1))
            return levels[min(max(place, 0), len(levels) - 1)]
        low, high = parameter.section.low, parameter.section.high
        return min(max(value * self._draw.choice(_FACTORS), low), high)  # type: ignore[type-var]
