"""The parameters of a study, in the order in which they are chosen, with the conditions under which they exist."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpctrain.errors import Problem
from hpctrain.profile.near import did_you_mean
from hpctrain.search.section import MAX_GRID, ParameterSection

Values = dict[str, Any]
"""A value for each parameter that exists: a number, or the name of a choice."""


class Source(Protocol):
    """Where values come from: a sampler, a grid, a corner."""

    def choose(self, parameter: Parameter) -> Any:
        """Return a value of a parameter."""


@dataclass(frozen=True)
class Parameter:
    """One key that varies.

    Parameters
    ----------
    key : str
        Key of the profile.
    section : ParameterSection
    """

    key: str
    section: ParameterSection

    @property
    def names(self) -> list[str]:
        """Names of the choices; empty for a range."""
        choices = self.section.choices
        if choices is None:
            return []
        return list(choices) if isinstance(choices, dict) else [_name_of(choice) for choice in choices]

    def value_of(self, chosen: Any) -> Any:
        """Return the value that the key of the profile gets."""
        choices = self.section.choices
        if choices is None:
            return chosen
        return choices[chosen] if isinstance(choices, dict) else choices[self.names.index(chosen)]

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether the values of the parameters before this one let it exist."""
        return all(key in values and values[key] in (_names(wanted)) for key, wanted in self.section.when.items())

    def levels(self) -> list[Any] | None:
        """Return all values in order; None for a continuous range."""
        low, high, step = self.section.low, self.section.high, self.section.step
        if self.section.choices is not None:
            return list(self.names)
        if self.section.is_whole:
            return list(range(low, high + 1, step or 1))  # type: ignore[arg-type, operator]
        if step is None:
            return None
        count = math.floor((high - low) / step * (1 + 1e-12)) + 1  # type: ignore[operator]
        return [low + index * step for index in range(count)]  # type: ignore[operator]

    def at(self, share: float) -> Any:
        """Return the value at `share`, between 0 and 1, of the range or the list of values."""
        if self.section.log:
            low, high = math.log(self.section.low), math.log(self.section.high)  # type: ignore[arg-type]
            value = min(max(math.exp(low + share * (high - low)), self.section.low), self.section.high)  # type: ignore[type-var]
            return round(value) if self.section.is_whole else value
        levels = self.levels()
        if levels is not None:
            return levels[min(int(share * len(levels)), len(levels) - 1)]
        return self.section.low + share * (self.section.high - self.section.low)  # type: ignore[operator]

    def ends(self) -> list[Any]:
        """Return the values at which a profile is checked: both ends of a range, or every choice."""
        if self.section.choices is not None:
            return list(self.names)
        return [self.section.low, (self.levels() or [self.section.high])[-1]]


@dataclass(frozen=True)
class Space:
    """All parameters, each after those that its conditions name.

    Parameters
    ----------
    parameters : tuple of Parameter
    """

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, sections: Mapping[str, ParameterSection]) -> Space:
        """Return the space of a study file, sorted so that conditions come first."""
        waiting = {key: Parameter(key, section) for key, section in sections.items()}
        ordered: list[Parameter] = []
        while waiting:
            placed = {parameter.key for parameter in ordered}
            ready = [key for key, parameter in waiting.items() if set(parameter.section.when) <= placed]
            ordered += [waiting.pop(key) for key in ready or list(waiting)]  # a circle is reported by `problems`
        return cls(tuple(ordered))

    def pick(self, source: Source) -> Values:
        """Return one point of the space: a value for every parameter that exists there."""
        values: Values = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                values[parameter.key] = source.choose(parameter)
        return values

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the changes of the base profile, as ``key=value`` each; whole sections come before their keys."""
        named = {parameter.key: parameter for parameter in self.parameters}
        keys = sorted(values, key=lambda key: key.count("."))
        return [f"{key}={json.dumps(named[key].value_of(values[key]))}" for key in keys]

    def corners(self) -> Iterator[Values]:
        """Yield points that reach every end of every parameter: few, whatever the size of the space.

        Each end is reached once with all others at their first end and once with all others at their last; each
        choice that others depend on is combined with all ends of these.
        """
        seen = set()
        for first in (True, False):
            for branch in self._branches(first):
                free = [parameter for parameter in self.parameters if parameter.exists(branch)]
                for varied in free:
                    for end in varied.ends():
                        point = self.pick(_Corner({**branch, varied.key: end}))
                        if (key := json.dumps(point, sort_keys=True)) not in seen:
                            seen.add(key)
                            yield point

    def _branches(self, first: bool) -> list[Values]:
        """Return one point for each combination of the choices that other parameters depend on."""
        asked = {key for parameter in self.parameters for key in parameter.section.when}
        switches = [parameter for parameter in self.parameters if parameter.key in asked]
        points = {}
        for ends in itertools.product(*(parameter.ends() for parameter in switches)):
            fixed = dict(zip((parameter.key for parameter in switches), ends, strict=True))
            point = self.pick(_Corner(fixed, first))
            points[json.dumps(point, sort_keys=True)] = point
        return list(points.values())

    def grid(self) -> list[Values]:
        """Return all combinations of values that exist.

        Raises
        ------
        ValueError
            A range is continuous, or there are too many combinations.
        """
        for parameter in self.parameters:
            if parameter.levels() is None:
                raise ValueError(f"{parameter.key} has a continuous range; give it choices or a step")
        points: list[Values] = [{}]
        for parameter in self.parameters:
            points = [
                {**point, parameter.key: level} if parameter.exists(point) else point
                for point in points
                for level in (parameter.levels() if parameter.exists(point) else [None])  # type: ignore[union-attr]
            ]
            if len(points) > MAX_GRID:
                raise ValueError(f"has more than {MAX_GRID:,} combinations")
        return points

    def problems(self) -> list[tuple[str, Problem]]:
        """Return what is wrong with the conditions, each with the key of its parameter."""
        found = []
        named = {parameter.key: parameter for parameter in self.parameters}
        for place, parameter in enumerate(self.parameters):
            for key, wanted in parameter.section.when.items():
                where = f"space.{parameter.key}.when"
                if key not in named:
                    found.append((parameter.key, Problem(where, f"'{key}' is not in space{did_you_mean(key, named)}")))
                elif self.parameters.index(named[key]) >= place:
                    found.append((parameter.key, Problem(where, f"'{key}' depends on '{parameter.key}' in turn")))
                elif names := named[key].names:
                    strange = [name for name in _names(wanted) if name not in names]
                    message = f"{', '.join(strange)} is no choice of '{key}', which are {', '.join(names)}"
                    found += [(parameter.key, Problem(where, message))] if strange else []
                else:
                    message = f"'{key}' is a range; only choices can decide whether another key exists"
                    found.append((parameter.key, Problem(where, message)))
        return found


class AtRandom:
    """Chooses values evenly over each range or list.

    Parameters
    ----------
    draw : random.Random
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def choose(self, parameter: Parameter) -> Any:
        """Return a value of a parameter."""
        return parameter.at(self._draw.random())


class _Corner:
    def __init__(self, fixed: Mapping[str, Any], first: bool = True) -> None:
        self._fixed, self._first = fixed, first

    def choose(self, parameter: Parameter) -> Any:
        return self._fixed.get(parameter.key, parameter.ends()[0 if self._first else -1])


def _name_of(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)


def _names(wanted: Any) -> list[str]:
    return [_name_of(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
