"""What there is to read on the disk, and whether it has changed since it was read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpctrain.index.rows import id_of
from hpctrain.pipeline.folder import FILE as PIPELINE
from hpctrain.registry.folder import Registry
from hpctrain.search.folder import FOLDS, STUDY
from hpctrain.trail.folder import FILE as TRAIL

LOCKED = "locked?"
"""Fingerprint of a run that may not be read."""
RUN, TRIAL, FOLD, STAGE = "run", "trial", "fold", "stage"
"""Kinds of run directories."""
STUDIES, PIPELINES, MODEL, AUDIT = "study", "pipeline", "model", "trail"
IS_RUN = frozenset(("profile.yaml", "job.json", "metrics.jsonl"))
_RUN_ID = re.compile(r"\d{8}-\d{6}-")
_NUMBER = re.compile(r"\d{1,9}")
_FRESH_NS = 2_000_000_000
"""A file that changed less than this ago may change again without a new time [ns]."""
_READER = 2
"""Version of what is read; with another one everything is read again."""
_OF_RUN = (
    "profile.yaml", "job.json", "provenance.json", "metrics.jsonl", "trial.json", "outcome.json", "attempts",
    "attempts/ended.tsv", "heartbeat", "monitor", "model", "results", "logs/superseded.jsonl",
)  # fmt: skip
"""Files of a run that are read, and folders whose files are replaced as a whole."""


@dataclass(frozen=True)
class Unit:
    """What is read at once.

    Parameters
    ----------
    kind : str
        One of the names above.
    place : str
        The folder of runs, of pipelines, or the registry in which it lies.
    path : str
    fingerprint : str
        Equal if nothing has changed; it ends with ``?`` if a file is so fresh that it may change unnoticed.
    parent : str
        Path of the study or the pipeline that it belongs to; empty if none.
    """

    kind: str
    place: str
    path: str
    fingerprint: str
    parent: str = ""

    @property
    def id(self) -> int:
        return id_of(self.path)


@dataclass(frozen=True)
class Place:
    """A folder that an index covers.

    Parameters
    ----------
    what : str
        ``runs``, ``pipelines`` or ``registry``.
    path : Path
        Absolute. A folder that does not exist is empty.
    """

    what: str
    path: Path

    def units(self) -> Iterator[Unit]:
        """Yield what there is to read, one at a time.

        Raises
        ------
        OSError
            The folder cannot be read.
        """
        readers = {"runs": _in_runs, "pipelines": _in_pipelines, "registry": _in_registry}
        yield from readers[self.what](self.path)


def place_of(kind: str, path: str) -> Place:
    """Return the place of a unit that an index knows."""
    whats = {PIPELINES: "pipelines", STAGE: "pipelines", MODEL: "registry", AUDIT: "registry"}
    return Place(whats.get(kind, "runs"), Path(path))


def _in_runs(folder: Path) -> Iterator[Unit]:
    for path in _below(folder):
        names = _names(path)
        if names is None:
            if _RUN_ID.match(os.path.basename(path)):
                yield Unit(RUN, str(folder), path, LOCKED)
        elif STUDY in names:
            yield from _in_study(str(folder), path, names)
        elif names & IS_RUN:
            yield _run(RUN, str(folder), path)


def _in_study(place: str, path: str, names: frozenset[str]) -> Iterator[Unit]:
    yield Unit(STUDIES, place, path, _fingerprint(path, (STUDY, "study.json")))
    for name in sorted(filter(_NUMBER.fullmatch, names), key=int):
        yield _run(TRIAL, place, os.path.join(path, name), path)
    folds = os.path.join(path, FOLDS)
    for name in sorted(filter(_NUMBER.fullmatch, _names(folds) or ()), key=int):
        yield _run(FOLD, place, os.path.join(folds, name), path)


def _in_pipelines(folder: Path) -> Iterator[Unit]:
    for path in _below(folder):
        names = _names(path) or frozenset()
        if PIPELINE not in names:
            continue
        own = tuple(sorted(f"{name}/state.json" for name in names) + [f"../store/{name}" for name in sorted(names)])
        yield Unit(PIPELINES, str(folder), path, _fingerprint(path, (PIPELINE, "pipeline.json", *own)))
        for name in sorted(names):
            stage = os.path.join(path, name)
            if os.path.lexists(os.path.join(stage, "profile.yaml")):
                yield _run(STAGE, str(folder), stage, path)


def _in_registry(folder: Path) -> Iterator[Unit]:
    registry, place = Registry(folder), str(folder)
    for name in sorted(_names(str(registry.models)) or ()):
        model = registry.model(name)
        if not model.numbers():
            continue
        aliases = [f"aliases/{alias}" for alias in model.alias_names()]
        yield Unit(MODEL, place, str(model.path), _fingerprint(str(model.path), ("versions", "aliases", *aliases)))
    trail = registry.path / TRAIL
    if trail.exists():
        yield Unit(AUDIT, place, str(trail), _fingerprint(str(registry.path), (TRAIL,)))


def _run(kind: str, place: str, path: str, parent: str = "") -> Unit:
    return Unit(kind, place, path, _fingerprint(path, _OF_RUN), parent)


def _below(folder: Path) -> Iterator[str]:
    """Yield the folders two levels below, sorted; links, such as ``latest``, are left out."""
    if not folder.exists():
        return
    for name in sorted(os.listdir(folder)):
        upper = os.path.join(folder, name)
        for inner in sorted(_names(upper) or ()):
            path = os.path.join(upper, inner)
            if not os.path.islink(path):
                yield path


def _names(path: str) -> frozenset[str] | None:
    """Return the names in a folder; empty if it is none, and None if it may not be read."""
    try:
        return frozenset(name for name in os.listdir(path) if not name.startswith("."))
    except PermissionError:
        return None
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _fingerprint(path: str, names: tuple[str, ...]) -> str:
    """Return a hash of number, size and time of change of some files of a folder."""
    facts: list[object] = [_READER]
    newest = 0
    for name in names:
        try:
            found = os.stat(os.path.join(path, name))
        except OSError:
            facts.append(None)
            continue
        size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        facts.append((found.st_ino, size, found.st_mtime_ns))
        newest = max(newest, found.st_mtime_ns)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    return f"{digest}?" if newest > time.time_ns() - _FRESH_NS else digest
