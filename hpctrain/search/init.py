"""``hpctrain search init PROFILE --out study.yaml``: a study file with the usual space of a family, to be edited."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.families.family import Family
from hpctrain.plugins import PluginError
from hpctrain.profile.load import load_profile
from hpctrain.profile.lookup import find_family
from hpctrain.profile.schema import Profile
from hpctrain.rundir import write_atomic
from hpctrain.search.spaces import SPACES, Varied, numbers_of, space_of

SOURCE = "hpctrain search init"
_TRIALS = 30
_TRIALS_OF_BUDGET = 1000
"""Trials of a study whose budget ends it."""


def study_text(
    profile: Path, out: Path, families: Sequence[str], hours: float | None, changes: Sequence[str] = ()
) -> str:
    """Return the text of a study file with comments.

    Parameters
    ----------
    profile : Path
        Base profile.
    out : Path
        Where the study file will be; the base is relative to it.
    families : sequence of str
        Families to search over; if empty, that of the profile.
    hours : float or None
        Budget of GPU hours.
    changes : sequence of str
        Changes of the base, ``key=value`` each.

    Raises
    ------
    ProfileError
        The profile is wrong, there is no usual space for a family, or families cannot be compared.
    """
    base = load_profile(profile, changes)
    names = list(dict.fromkeys(families)) or [base.model.family]
    problems = [*_problems(base, names)]
    if hours is not None and not hours > 0:
        problems.append(Problem("--hours", f"{hours:g} is not above 0"))
    if problems:
        raise ProfileError(SOURCE, problems)
    where = os.path.relpath(profile.absolute(), out.absolute().parent)
    learns_by_gradient = all(find_family(name).how != "rounds" for name in names)
    lines = [
        f"# A search over {profile.name}, as hpctrain search init wrote it. It is yours: change ranges, remove lines,",
        "# add keys of the profile.",
        "#",
        f"#     hpctrain search {out.name} --dry-run     check every corner, submit nothing",
        f"#     hpctrain search {out.name}",
        "",
        f"name: {base.name}-search",
        f"base: {json.dumps(where)}",
        *([f"set: {json.dumps(list(changes))}"] if changes else []),
        "",
        "# objectives: [{metric: loss, direction: minimize}]     # if unset, what decides which evaluation is best",
        f"trials: {_TRIALS if hours is None else _TRIALS_OF_BUDGET}",
        f"parallel: {2 if base.launch.gpus_per_node == 0 else 4}               # at once",
        *_budget(hours),
        "sampler: {name: tpe, startup_trials: 10}",
        "pruner: {name: hyperband}"
        if learns_by_gradient
        else "# pruner: {name: median}    # ends hopeless trials early",
        "",
        "space:",
        *_space_lines(base, names),
    ]
    return "\n".join(lines) + "\n"


def write_study_file(out: Path, text: str) -> None:
    """Write a study file.

    Raises
    ------
    ProfileError
        It exists, or its folder does not.
    """
    if out.exists():
        raise ProfileError(SOURCE, [Problem("--out", f"{out} exists and is not overwritten; choose another name")])
    if not out.absolute().parent.is_dir():
        raise ProfileError(SOURCE, [Problem("--out", f"{out.absolute().parent} is no directory; make it first")])
    write_atomic(out, text)


def _budget(hours: float | None) -> list[str]:
    if hours is None:
        return ["# budget: {gpu_hours: 10}  # no trial starts after these; hours of ranks where there is no GPU"]
    return [f"budget: {{gpu_hours: {hours:g}}}    # no trial starts after these; hours of ranks where there is no GPU"]


def _problems(base: Profile, names: Sequence[str]) -> list[Problem]:
    """Return why there is no space for these families."""
    found = []
    own = find_family(base.model.family)
    for name in names:
        try:
            family = find_family(name)
        except PluginError as error:
            found.append(Problem("--families", str(error)))
            continue
        if family.kind != own.kind:
            found.append(Problem("--families", f"{name} learns from {family.kind}, but the profile has {own.kind}"))
        elif name != base.model.family and not (_has_labels(family) and _has_labels(own)):
            one = name if not _has_labels(family) else base.model.family
            message = f"{one} learns no labels, so its loss says nothing beside that of the other one"
            found.append(Problem("--families", message))
        elif len(names) == 1 and not (name in SPACES and space_of(name, base)):
            message = f"there is no usual space for {name} here; write a study file (hpctrain docs searching)"
            found.append(Problem("--families", message))
    return found


def _has_labels(family: Family) -> bool:
    return "labels" in family.section.model_fields


def _space_lines(base: Profile, names: Sequence[str]) -> list[str]:
    """Return the lines of ``space``: for several families the choice between them, and whose each key is."""
    owners: dict[str, list[str]] = {}
    varied: dict[str, Varied] = {}
    for name in names:
        for each in space_of(name, base) if name in SPACES else ():
            owners.setdefault(each.key, []).append(name)
            varied.setdefault(each.key, each)
    lines = [] if len(names) == 1 else _choice_of_family(base, names)
    numbers = numbers_of(base)
    for key, each in varied.items():
        when: dict[str, Any] = dict(each.when)
        if len(names) > 1 and key.startswith("model."):
            when = {"model": owners[key][0] if len(owners[key]) == 1 else owners[key], **when}
        values = re.sub(r"@(\w+)@", lambda found: numbers[found[1]], each.values)
        lines.append(f"  {f'{key}: {_with_condition(values, when)}':<72} # {each.why}")
    return lines


def _choice_of_family(base: Profile, names: Sequence[str]) -> list[str]:
    sections = {}
    for name in names:
        section = base.model.model_dump(mode="json", exclude_unset=True)
        sections[name] = section if name == base.model.family else {"family": name, "labels": section["labels"]}
    head = ["  model:", "    choices:               # each family with its own keys; those of the space come on top"]
    return head + [f"      {json.dumps(name)}: {json.dumps(section)}" for name, section in sections.items()]


def _with_condition(values: str, when: Mapping[str, Any]) -> str:
    if not when:
        return values
    conditions = ", ".join(
        f"{key}: {json.dumps(value) if isinstance(value, list) else value}" for key, value in when.items()
    )
    inside = values[1:-1] if values.startswith("{") else f"choices: {values}"
    return f"{{{inside}, when: {{{conditions}}}}}"
