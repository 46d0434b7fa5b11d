"""What differs between runs besides their predictions: keys of the profile, data files, versions of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.errors import ProfileError
from hpctrain.profile.reading import read_plain
from hpctrain.rundir import RunDir, read_json

_NOT_COMPARED = ("name", "description", "validate")
"""Keys that say nothing about the training."""
_ABSENT = object()

Row = dict[str, Any]
"""``key``, and ``values``: one for each run; None where a run has none."""


def profile_differences(runs: Sequence[RunDir]) -> list[Row]:
    """Return the keys of the profiles that are not the same in all runs, in the order of the profile."""
    flat = [_flat(_profile(run)) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each if key.partition(".")[0] not in _NOT_COMPARED)
    return _apart({key: [each.get(key, _ABSENT) for each in flat] for key in keys})


def _profile(run: RunDir) -> Mapping[str, Any]:
    try:
        return read_plain(run.profile).data
    except ProfileError:
        return {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _apart(values: Mapping[str, list[Any]]) -> list[Row]:
    return [
        {"key": key, "values": [None if value is _ABSENT else value for value in each]}
        for key, each in values.items()
        if any(value != each[0] for value in each[1:])
    ]


def recorded_files(run: RunDir) -> list[dict[str, Any]]:
    """Return name, size and fingerprint of each data file, as the submission recorded them."""
    recorded = (read_json(run.provenance) or {}).get("data")
    found = []
    for entry in recorded if isinstance(recorded, list) else []:
        if isinstance(entry, dict):
            hashes = entry.get("columns")
            same = {"bytes": entry.get("bytes"), "columns": hashes if isinstance(hashes, dict) else {}}
            found.append({"name": Path(str(entry.get("path"))).name, **same})
    return found


def data_rows(runs: Sequence[RunDir]) -> list[Row]:
    """Return the data files of all runs, and whether they are the same as far as their fingerprints tell."""
    files = [recorded_files(run) for run in runs]
    values = [", ".join(f"{each['name']} ({_bytes(each['bytes'])})" for each in own) or None for own in files]
    if any(own != files[0] for own in files[1:]):
        said = "different"
    elif not files[0]:
        said = "not recorded"
    else:
        said = "the same" if all(each["columns"] for each in files[0]) else "of the same name and size; not hashed"
    return [{"key": "files", "values": values}, {"key": "fingerprints", "values": [said] * len(runs)}]


def _bytes(size: Any) -> str:
    return f"{size:,} bytes" if isinstance(size, int) else "size unknown"


def code_rows(runs: Sequence[RunDir]) -> list[Row]:
    """Return the versions of code and packages: the commit always, packages only where they differ."""
    found = [read_json(run.provenance) or {} for run in runs]
    shown = {"hpctrain": [each.get("hpctrain") for each in found], "commit": [_commit(each) for each in found]}
    packages = [each.get("packages") if isinstance(each.get("packages"), dict) else {} for each in found]
    names = dict.fromkeys(name for each in packages for name in each)
    also = {"python": [each.get("python") for each in found]}
    also |= {name: [each.get(name) for each in packages] for name in names}
    return [{"key": key, "values": values} for key, values in shown.items()] + _apart(also)


def _commit(provenance: Mapping[str, Any]) -> str | None:
    git = (provenance.get("code") or {}).get("git") or {}
    commit = git.get("commit")
    return None if commit is None else f"{commit[:10]}{' with changes' if git.get('dirty') else ''}"
