"""The content key of a stage: what it reads, what it does, and the version of the code."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.errors import DataError
from hpctrain.pipeline.folder import PipelineDir, StageDir
from hpctrain.pipeline.kinds import commands_of, names_in, needs_of, trainer_after, trainer_before
from hpctrain.pipeline.section import CHALLENGE, EVALUATE, GATE, NEW, SPLIT, TRAIN, PipelineSection, StageSection
from hpctrain.rundir import file_digest, read_json, write_json

_LONGEST = 60
_AT_ONCE = 8
_TICK_S = 2.0
NEVER_DONE = "it was never done"
EARLIEST = 315532800
"""Date of results of no files from outside: 1980-01-01, the first one that archives such as zip can hold."""
KEY_LENGTH = 16
"""Number of hexadecimal digits of a key."""


def parts_of(stage: StageDir, results: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that the results of a stage depend on.

    Parameters
    ----------
    stage : StageDir
    results : mapping of str to str
        Digest of the results of each stage that it needs.

    Raises
    ------
    DataError
        An input is missing.
    """
    section = stage.pipeline.section()
    own = section.stage(stage.stage_name)
    return {
        "does": own.does,
        "commands": commands_of(section, own),
        "profile": _profile(own) if own.does == TRAIN else _split_by(section, own) or _judged_by(section, own),
        "inputs": inputs_of(stage.pipeline, own),
        **_own_keys(own),
        "results": dict(results),
        "hpctrain": __version__,
    }


def _own_keys(own: StageSection) -> dict[str, Any]:
    """Return the keys of a stage that are not in its commands. Which version has an alias is none of them: to move it
    trains nothing again."""
    names = ("data", "min_objects", "drift") if own.does == NEW else ("start", "replay")
    found = own.model_dump(mode="json", include=set(names))
    return {"keys": found} if any(value is not None for value in found.values()) else {}


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the content key of these parts."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def inputs_of(pipeline: PipelineDir, stage: StageSection) -> dict[str, str]:
    """Return the SHA-256 of each file from outside that a stage reads, by its path.

    A file whose size and times are those of last time is not read again.

    Raises
    ------
    DataError
        A pattern matches no file, or a file cannot be read.
    """
    cwd = pipeline.read_record().get("cwd") or os.getcwd()
    paths = [path for pattern in patterns_of(stage, cwd) for path in _matching(stage, pattern)]
    stored = read_json(pipeline.digests, {})
    known = stored if isinstance(stored, dict) else {}
    looks = {str(path): _look_of(path) for path in dict.fromkeys(paths)}
    new = [path for path, look in looks.items() if not _is_known(known.get(path), look)]
    for path, digest in zip(new, digests_of_files(map(Path, new)), strict=True):
        known[path] = {"seen": looks[path], "read_at": time.time(), "sha256": digest}
    if new:
        write_json(pipeline.digests, known)
    return {path: known[path]["sha256"] for path in looks}


def digests_of_files(paths: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of files; several are read at once, as many small ones on a network keep a disk waiting."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(file_digest, paths))


def _look_of(path: Path) -> list[int]:
    """Return size, times and number of a file: if they stay the same, so do the contents."""
    facts = os.stat(path)
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _is_known(entry: Any, look: list[int]) -> bool:
    """Return whether the hash of a file is known.

    A file that changed within two seconds before it was read may have changed again without another time.
    """
    if not isinstance(entry, dict) or entry.get("seen") != look:
        return False
    return max(look[1], look[2]) < (entry.get("read_at", 0.0) - _TICK_S) * 1e9


def date_of(stage: StageDir, inputs: Iterable[str]) -> int:
    """Return the date of the newest file from outside that a stage or one that it needs reads [s since 1970].

    Its commands write it into their files in place of the time of day, so the same inputs give the same bytes.
    """
    dates = [int(os.stat(path).st_mtime) for path in inputs if os.path.exists(path)]
    for need in needs_of(stage.pipeline.section(), stage.section()):
        other = stage.pipeline.stage(need)
        dates.append((other.read_result(other.read_state().key) or {}).get("date", EARLIEST))
    return max(dates, default=EARLIEST)


def patterns_of(stage: StageSection, folder: str) -> list[str]:
    """Return names and patterns of all files from outside that a stage reads; `folder` is where its commands run."""
    found = [*stage.inputs, *stage.frozen, *([stage.expectations] if stage.expectations else [])]
    if stage.does == NEW and stage.data is not None and not names_in([stage.data]):
        found.append(stage.data)
    if stage.replay is not None:
        found += stage.replay.data
    return [*found, *_data_of(stage, folder)]


def _data_of(stage: StageSection, folder: str) -> list[str]:
    """Return the files that a profile trains on, where they are not results of other stages."""
    if stage.profile is None or any(each.startswith("data.files=") and names_in([each]) for each in stage.set):
        return []
    from hpctrain.profile.load import load_profile

    changes = [each for each in stage.set if each.startswith("data.files=")]
    return [os.path.join(folder, pattern) for pattern in load_profile(stage.profile, changes).data.files]


def _matching(stage: StageSection, pattern: str) -> list[Path]:
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(path)]
    if not paths and stage.does != NEW:
        raise DataError(f"stage {stage.name}: no file matches '{pattern}' (inputs); is it the right folder?")
    return paths


def _profile(stage: StageSection) -> dict[str, Any] | None:
    """Return the values of a profile that a model depends on: not where it runs, nor what is said about it."""
    if stage.profile is None:
        return None
    from hpctrain.profile.load import load_profile

    values = load_profile(stage.profile, [each for each in stage.set if "{" not in each]).model_dump(mode="json")
    for key in ("description", "launch", "track", "monitor", "checkpoint", "validate"):
        values.pop(key, None)
    return {**values, "set": stage.set}


def _split_by(section: PipelineSection, stage: StageSection) -> dict[str, Any] | None:
    """Return the profile whose split a stage looks at."""
    trainer = trainer_after(section, stage)
    return _profile(trainer) if stage.does == SPLIT and not stage.run and trainer else None


def _judged_by(section: PipelineSection, stage: StageSection) -> dict[str, Any] | None:
    """Return the section ``validate`` by which a stage judges a model; a change of it trains nothing again."""
    trainer = trainer_before(section, stage)
    if stage.does not in (EVALUATE, GATE, CHALLENGE) or stage.run or not trainer:
        return None
    from hpctrain.profile.load import load_profile

    profile = section.stage(trainer).profile
    return {"validate": load_profile(str(profile)).validate.model_dump(mode="json")}


def differences(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Return what has changed between the parts of two keys, in words."""
    if old is None:
        return [NEVER_DONE]
    said = []
    for name, kind in (("inputs", "input"), ("results", "stage")):
        before, now = old.get(name) or {}, new.get(name) or {}
        said += [f"{kind} {each} is new" for each in now if each not in before]
        said += [f"{kind} {each} is gone" for each in before if each not in now]
        said += [f"{kind} {each} has changed" for each in now if each in before and before[each] != now[each]]
    if old.get("commands") != new.get("commands") or old.get("does") != new.get("does"):
        said.append("its commands have changed")
    said += _changed_keys(old.get("keys") or {}, new.get("keys") or {}, what="key")
    said += _changed_keys(old.get("profile") or {}, new.get("profile") or {})
    if old.get("hpctrain") != new.get("hpctrain"):
        said.append(f"hpctrain is {new.get('hpctrain')} and was {old.get('hpctrain')}")
    return said


def _changed_keys(old: Any, new: Any, path: str = "", what: str = "profile") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [each for key in keys for each in _changed_keys(old.get(key), new.get(key), f"{path}.{key}", what)]
    if old == new:
        return []
    return [f"{what} {path[1:]} is {_short(new)} and was {_short(old)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
