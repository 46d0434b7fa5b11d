"""What differs between the origins of two runs: keys of the profiles, data files, code, packages, machines."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpctrain.errors import ProfileError
from hpctrain.metrics.events import Started
from hpctrain.metrics.read import History
from hpctrain.profile.load import load_profile, plain_values
from hpctrain.profile.reading import read_plain
from hpctrain.rundir import RunDir, read_json

ABSENT = "(absent)"
"""Stands for the value of a key that only the other one has."""


@dataclass(frozen=True)
class Difference:
    """A value that differs.

    Parameters
    ----------
    name : str
        Such as ``train.seed``.
    before, after : object
        The value of the first and of the second run; ``(absent)`` if it has none.
    """

    name: str
    before: Any
    after: Any


def plain_profiles(before: RunDir, after: RunDir) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values in the profiles of two runs.

    Keys that one of them does not have, because an older version wrote it, have their default there. If this version
    can no longer read one of the profiles, both are as they were written.

    Raises
    ------
    ProfileError
        One of them is missing or is not YAML.
    """
    try:
        return plain_values(load_profile(before.profile)), plain_values(load_profile(after.profile))
    except ProfileError:
        return read_plain(before.profile).data, read_plain(after.profile).data


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between two nested mappings, by dotted names, in the order of the first one.

    Lists count as one value, except those of mappings, whose elements have names such as ``labels.0.column``.
    """
    one, other = dict(dotted(before)), dict(dotted(after))
    names = [*one, *(name for name in other if name not in one)]
    pairs = [Difference(name, one.get(name, ABSENT), other.get(name, ABSENT)) for name in names]
    return [pair for pair in pairs if _differs(pair.before, pair.after) and not _is_empty_section(pair, names)]


def _differs(one: Any, other: Any) -> bool:
    return bool(one != other) or isinstance(one, bool) != isinstance(other, bool)


def _is_empty_section(pair: Difference, names: Sequence[str]) -> bool:
    """Return whether one run has an empty section and the other one keys in it, which are named by themselves."""
    return {} in (pair.before, pair.after) and any(name.startswith(f"{pair.name}.") for name in names)


def dotted(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested mappings, and in lists of mappings, with their dotted names below `name`."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from dotted(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and value and all(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from dotted(inner, f"{name}.{number}")
    else:
        yield name, value


@dataclass(frozen=True)
class DataFile:
    """A data file of one of two runs, or of both.

    Parameters
    ----------
    path : str
    state : str
        ``the same``, ``changed``, ``only first``, ``only second``; ``perhaps changed`` if only its time differs and no
        hashes say more.
    why : list of str
        What differs, such as ``bytes`` or the name of a column.
    """

    path: str
    state: str
    why: list[str]


def compare_data(before: Sequence[Any], after: Sequence[Any]) -> list[DataFile]:
    """Compare data files by their fingerprints, as ``provenance.json`` holds them.

    Hashes of columns decide where both have them, then a copy of a file in another folder is the same file; else size
    and time of change.
    """
    rest = [entry for entry in after if isinstance(entry, dict)]
    found = []
    for one in (entry for entry in before if isinstance(entry, dict)):
        columns = one.get("columns")
        other = next((entry for entry in rest if entry.get("path") == one.get("path")), None)
        other = other or next((entry for entry in rest if columns and entry.get("columns") == columns), None)
        if other is None:
            found.append(DataFile(str(one.get("path")), "only first", []))
            continue
        rest.remove(other)
        found.append(_compare_file(one, other))
    return found + [DataFile(str(entry.get("path")), "only second", []) for entry in rest]


def _compare_file(one: Mapping[str, Any], other: Mapping[str, Any]) -> DataFile:
    path = str(other.get("path"))
    hashes, others = one.get("columns") or {}, other.get("columns") or {}
    if hashes and others:
        changed = [name for name in {**hashes, **others} if hashes.get(name) != others.get(name)]
        return DataFile(path, "changed" if changed else "the same", changed)
    if one.get("bytes") != other.get("bytes"):
        return DataFile(path, "changed", ["bytes"])
    if one.get("modified") != other.get("modified"):
        return DataFile(path, "perhaps changed", ["time of change"])
    return DataFile(path, "the same", [])


def read_provenance(run: RunDir) -> dict[str, Any]:
    """Return ``provenance.json``; an empty record if it is missing or may not be read."""
    found = read_json(run.provenance, {})
    return found if isinstance(found, dict) else {}


def compare_code(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[Difference], list[str]]:
    """Compare the code of two runs, as ``provenance.json`` describes it.

    Returns
    -------
    differences : list of Difference
        Commits, versions of packages.
    lines : list of str
        Unified diff of the uncommitted changes of the two.
    """
    one, other = _code_of(before), _code_of(after)
    lines: list[str] = []
    for name in ("code", "project"):
        texts = [str(_git(origin, name).get("diff") or "").splitlines() for origin in (before, after)]
        lines += difflib.unified_diff(*texts, f"{name} of the first", f"{name} of the second", lineterm="")
    return differing(one, other), lines


def _code_of(origin: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"hpctrain": origin.get("hpctrain", ABSENT), "python": origin.get("python", ABSENT)}
    for name in ("code", "project"):
        found[f"{name} commit"] = _git(origin, name).get("commit", ABSENT)
    packages = origin.get("packages")
    return found | (dict(packages) if isinstance(packages, dict) else {})


def _git(origin: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    place = origin.get(name)
    git = place.get("git") if isinstance(place, dict) else None
    return git if isinstance(git, dict) else {}


def compare_machines(
    before: tuple[Mapping[str, Any], History], after: tuple[Mapping[str, Any], History]
) -> list[Difference]:
    """Compare where two runs trained: host of the submission, system, devices, ranks, torch.

    Parameters
    ----------
    before, after : tuple of mapping and History
        Provenance and records of each run.
    """
    return differing(_machine_of(*before), _machine_of(*after))


def _machine_of(origin: Mapping[str, Any], history: History) -> dict[str, Any]:
    found = {name: origin.get(name, ABSENT) for name in ("user", "host", "system")}
    started = history.newest(Started)
    for name in ("hosts", "num_nodes", "world_size", "device", "torch", "accumulation"):
        found[name] = ABSENT if started is None else getattr(started, name)
    return found | {"attempts": len(history.all_of(Started))}
