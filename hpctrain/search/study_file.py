"""Read a study file, and check every corner of its space before anything is queued."""

from __future__ import annotations

import itertools
import math
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.check import Findings, add_memory, check_profile
from hpctrain.profile.document import Document, Place, sort_problems
from hpctrain.profile.explain import typed
from hpctrain.profile.reading import read_plain
from hpctrain.profile.schema import Profile
from hpctrain.profile.yaml_text import parse_value
from hpctrain.search.evolution import KEEPS_SHAPES
from hpctrain.search.measured import OF_BUNDLE, OF_MODEL
from hpctrain.search.section import StudySection
from hpctrain.search.space import AtRandom, Space, Values

MOST_POINTS = 200
"""Largest number of corners of a space that are checked."""
MOST_ESTIMATES = 2
"""Number of points of each family whose memory is estimated."""
_SIZES = ("model", "data", "train.batch_size", "train.precision")
"""Keys on which memory depends."""
SHARED_KEYS = ("name", "launch")
"""Keys that belong to the array as a whole."""
ON_RAY = "local"
"""The target of trials that Ray starts."""


@dataclass(frozen=True)
class StudyFile:
    """A study file that was read and is typed.

    Parameters
    ----------
    section : StudySection
        Its `base` is an absolute path.
    document : Document
        Its plain values and their lines.
    """

    section: StudySection
    document: Document

    @property
    def space(self) -> Space:
        return Space.of(self.section.space)


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study file.

    Parameters
    ----------
    path : str or Path
    overrides : sequence of str
        ``key=value`` each, such as ``trials=50``.

    Raises
    ------
    ProfileError
        The file is wrong; the message lists all problems with their lines.
    """
    document = read_plain(path)
    for override in overrides:
        _override(document, override)
    section = typed(document, StudySection)
    problems = document.problems + [
        document.problem(("space", key), problem.message) for key, problem in Space.of(section.space).problems()
    ]
    problems += [
        document.problem(("space", key), "belongs to the array as a whole and cannot vary")
        for key in section.space
        if key.split(".")[0] in SHARED_KEYS
    ]
    if section.sampler.name == "pbt":
        problems += [
            document.problem(("space", key), "cannot vary: pbt goes on with the weights of another trial")
            for key in section.space
            if not key.startswith(KEEPS_SHAPES)
        ]
    if section.storage is not None and not re.match(r"\w+(\+\w+)?://", section.storage):  # it may hold a password
        message = "is not the URL of a database; write sqlite:///study.db or postgresql+psycopg://host/name"
        problems.append(document.problem(("storage",), message))
    if section.sampler.name == "grid" and not problems:
        try:
            Space.of(section.space).grid()
        except ValueError as error:
            problems.append(document.problem(("sampler",), f"grid: the space {error}"))
    if problems:
        raise ProfileError(document.source, sort_problems(problems))
    base = os.path.normpath(Path(path).parent / os.path.expandvars(section.base))
    storage = None if section.storage is None else _absolute(section.storage, Path(path).parent)
    # For the profile, a node of Ray is one machine without a queue.
    on_ray = [f"launch.cluster={ON_RAY}"] if section.engine.name == "ray" else []
    changes = {"base": base, "storage": storage, "set": [*section.set, *section.split_changes, *on_ray]}
    return StudyFile(section.model_copy(update=changes), document)


def _absolute(url: str, folder: Path) -> str:
    """Return a URL of SQLite with an absolute path, which is relative to the study file; others unchanged."""
    scheme, mark, path = url.partition(":///")
    if not mark or scheme.partition("+")[0] != "sqlite" or not path or path.startswith((":", "/")):
        return url
    return f"{scheme}:///{(folder / path).absolute()}"


def _override(document: Document, text: str) -> None:
    keys, equals, value = text.partition("=")
    *around, last = keys.split(".") if not keys.startswith("space.") else ["space", keys.removeprefix("space.")]
    target: Any = document.data
    for key in around:
        target = target.setdefault(key, {}) if isinstance(target, dict) else None
    if not equals or not last or not isinstance(target, dict):
        document.problems.append(Problem("--set", f"'{text}' is not of the form key=value, such as trials=50"))
        return
    try:
        target[last] = parse_value(value)
    except ValueError as error:
        document.problems.append(Problem("--set", f"{keys}: the value {error}"))
        return
    document.forget((*around, last))
    document.places[(*around, last)] = Place("--set")


def check_study(study: StudyFile, memory: bool = True) -> Findings:
    """Check the base profile and the corners of the space; return the findings of the base.

    Parameters
    ----------
    study : StudyFile
    memory : bool
        Also estimate whether the largest corners fit into the memory of the device.

    Raises
    ------
    ProfileError
        The base or a corner has problems: each message says which values lead there.
    """
    section = study.section
    base = check_profile(section.base, section.set, memory=False)
    profile = base.raise_problems()
    problems = {problem.message: problem for problem in _objective_problems(study, profile)}
    warnings: dict[str, Problem] = {}
    good: list[tuple[Values, Findings]] = []
    for values, is_corner in _points(study.space, section.seed):
        found = check_profile(section.base, [*section.set, *study.space.overrides(values)], memory=False)
        for problem in found.problems:
            problems.setdefault(f"{problem.where}: {problem.message}", _placed(study, problem, values))
        for warning in found.warnings if is_corner else ():
            warnings.setdefault(f"{warning.where}: {warning.message}", _placed(study, warning, values))
        if not found.problems:
            good.append((values, found))
    for values, found in _largest(study.space, good) if memory and not problems else ():
        add_memory(found, {})
        for problem in found.problems:
            problems.setdefault(f"{problem.where}: {problem.message}", _placed(study, problem, values))
    if problems:
        raise ProfileError(study.document.source, sort_problems(list(problems.values())))
    known = {f"{warning.where}: {warning.message}" for warning in base.warnings}
    base.warnings += [warning for key, warning in warnings.items() if key not in known]
    return base


def _largest(space: Space, good: list[tuple[Values, Findings]]) -> list[tuple[Values, Findings]]:
    """Return the points of each family that need most memory, by the numbers that their values hold.

    An estimate takes seconds, so only these are made: wider, deeper and more at once all mean larger numbers.
    """
    chosen: dict[str, list[tuple[Values, Findings]]] = {}
    for values, found in sorted(good, key=lambda point: -_size(space, point[0])):
        if found.profile is not None and found.profile.platform:
            chosen.setdefault(found.profile.model.family, []).append((values, found))
    return [point for points in chosen.values() for point in points[:MOST_ESTIMATES]]


def _size(space: Space, values: Values) -> float:
    named = {parameter.key: parameter for parameter in space.parameters}
    sizes = [named[key].value_of(value) for key, value in values.items() if key.startswith(_SIZES)]
    return sum(math.log1p(abs(number)) for number in _numbers(sizes))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inside)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _objective_problems(study: StudyFile, profile: Profile) -> Iterator[Problem]:
    """Yield what objectives and folds need and the base does not give them."""
    if study.section.folds is not None and profile.data.split.fold is not None:
        message = (
            "the base holds out one fold, data.split.fold, and each trial shall hold out all in turn; remove it there"
        )
        yield study.document.problem(("folds",), message)
    for index, objective in enumerate(study.section.objectives):
        if objective.metric in OF_BUNDLE and profile.edge.export_at_end is None:
            message = (
                f"'{objective.metric}' is of the bundle, which each trial must write: set: [edge.export_at_end=fp32]"
            )
            yield study.document.problem(("objectives", index), message)
    if study.section.pruner.name != "none" and study.section.objectives[0].metric in OF_MODEL:
        message = f"'{study.section.objectives[0].metric}' is known at the end alone, so nothing can be pruned by it"
        yield study.document.problem(("pruner",), message)


def _points(space: Space, seed: int) -> Iterator[tuple[Values, bool]]:
    """Yield the corners, at most :data:`MOST_POINTS` of them, and random points; each with whether it is a corner."""
    for values in itertools.islice(space.corners(), MOST_POINTS):
        yield values, True
    draw = random.Random(seed)
    for _ in range(5):
        yield space.pick(AtRandom(draw)), False


def _placed(study: StudyFile, problem: Problem, values: Values) -> Problem:
    """Return the problem of a corner, at the line of the parameter that leads to it, with the values it has there."""
    near = [key for key in values if problem.where == key or problem.where.startswith(f"{key}.")]
    chosen = ", ".join(
        f"{key}={value}" for key, value in (values.items() if not near else [(near[0], values[near[0]])])
    )
    where = ("space", near[0]) if near else ("space",)
    return study.document.problem(where, f"{problem.where}: {problem.message} (with {chosen})")
