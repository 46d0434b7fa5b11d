"""Which versions have seen a raw file, a data file or an object, also through the version they started from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import CheckpointError
from hpctrain.registry.folder import Registry
from hpctrain.registry.version import WEIGHTS, Version, read_version
from hpctrain.rundir import read_json

SIDES = ("training", "validation", "test")


@dataclass(frozen=True)
class Seen:
    """A version that has something to do with what was asked for.

    Parameters
    ----------
    version : Version
    counts : dict
        Number of rows by side: ``training``, ``validation``, ``test``.
    through : Version or None
        The version whose weights its training began with, and that has seen it.
    """

    version: Version
    counts: dict[str, int]
    through: Version | None = None


def versions_with_file(name: str, registry: Registry) -> list[Seen]:
    """Return the versions that have seen a raw file or a data file.

    Parameters
    ----------
    name : str
        A path as the ingest was given it, or only the name of the file.
    registry : Registry

    Raises
    ------
    CheckpointError
        A version is damaged.
    """

    def chosen(facts: dict[str, Any], rows: dict[str, np.ndarray]) -> np.ndarray:
        if any(_is_same(str(entry.get("path")), name) for entry in facts["files"]):
            return np.ones(len(rows["target_id"]), bool)
        numbers = [number for number, source in enumerate(facts["sources"]) if _is_same(source, name)]
        return np.isin(rows["source"], numbers)

    return _all_seen(chosen, registry)


def versions_with_object(target_id: int, registry: Registry) -> list[Seen]:
    """Return the versions that have seen an object, by its `target_id`; exceptions as of :func:`versions_with_file`."""
    wanted = np.array([target_id % 2**64], np.uint64).view(np.int64)[0]
    return _all_seen(lambda facts, rows: rows["target_id"] == wanted, registry)


def _is_same(path: str, wanted: str) -> bool:
    return path == wanted or Path(path).name == wanted or path == str(Path(wanted).absolute())


_Chosen = Callable[[dict[str, Any], dict[str, np.ndarray]], np.ndarray]


def _all_seen(chosen: _Chosen, registry: Registry) -> list[Seen]:
    versions = list(_versions(registry))
    found: dict[str, Seen] = {}
    for version in versions:
        facts, rows = read_lineage(version)
        mask = chosen(facts, rows)
        if mask.any():
            counts = np.bincount(rows["side"][mask], minlength=len(SIDES))
            found[str(version)] = Seen(version, dict(zip(SIDES, counts.tolist(), strict=True)))
    by_weights = {version.files[WEIGHTS]["sha256"]: version for version in reversed(versions)}
    while new := {
        str(version): Seen(version, dict.fromkeys(SIDES, 0), before)
        for version in versions
        if str(version) not in found and (before := _start(version, by_weights)) and str(before) in found
    }:
        found |= new
    return [found[str(version)] for version in versions if str(version) in found]


def _start(version: Version, by_weights: dict[str, Version]) -> Version | None:
    started = read_lineage(version)[0].get("started_from") or {}
    return by_weights.get(started.get("sha256", ""))


def _versions(registry: Registry) -> Iterator[Version]:
    for name in registry.names():
        model = registry.model(name)
        yield from (read_version(model, number) for number in model.numbers())


def read_lineage(version: Version) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the lineage of a version, as of :func:`~hpctrain.registry.lineage.lineage_of`.

    Raises
    ------
    CheckpointError
        It is damaged.
    """
    facts = read_json(version.path / "lineage.json")
    if not isinstance(facts, dict):
        raise CheckpointError(f"{version.path / 'lineage.json'}: is missing or damaged; run hpctrain registry verify")
    rows = {"target_id": np.empty(0, np.int64), "side": np.empty(0, np.uint8), "source": np.empty(0, np.int32)}
    if "lineage.npz" not in version.files:
        return facts, rows
    try:
        with np.load(version.path / "lineage.npz") as arrays:
            return facts, {name: arrays[name] for name in rows}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{version.path / 'lineage.npz'}: cannot be read ({error})") from error
