"""What W&B's own offline files hold; their format is that of LevelDB's log."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_HEAD = 7
_WHOLE, _LAST = 1, 4


def records_of(folder: Path) -> Iterator[Any]:
    """Yield the records that W&B's client has written below a folder, file by file, in the order of writing."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        data, place, buffer = path.read_bytes(), _HEAD, b""
        while place + _HEAD <= len(data):
            if (left := _BLOCK - place % _BLOCK) < _HEAD:
                place += left
                continue
            _, size, part = struct.unpack("<IHB", data[place : place + _HEAD])
            buffer += data[place + _HEAD : place + _HEAD + size]
            place += _HEAD + size
            if part in (_WHOLE, _LAST):
                yield Record.FromString(buffer)
                buffer = b""


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of curves: JSON texts by name."""
    rows = []
    for record in records_of(folder):
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in items})
    return rows


def artifacts_of(folder: Path) -> list[dict[str, Any]]:
    """Return name, type, aliases, metadata, entries and use of each artifact that was logged or used."""
    found = []
    for record in records_of(folder):
        if record.WhichOneof("record_type") == "artifact":
            artifact = record.artifact
            entries = {
                entry.path: {"digest": entry.digest, "ref": entry.ref, "size": entry.size}
                for entry in artifact.manifest.contents
            }
            facts = {"name": artifact.name, "type": artifact.type, "aliases": list(artifact.aliases)}
            facts |= {"metadata": json.loads(artifact.metadata or "{}"), "entries": entries}
            found.append({**facts, "is_used": artifact.use_after_commit})
    return found


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """Return id, name, group, type of job and config of each start of a run."""
    found = []
    for record in records_of(folder):
        if record.HasField("run"):
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
            facts = {"id": run.run_id, "name": run.display_name, "group": run.run_group, "job_type": run.job_type}
            found.append({**facts, "config": config})
    return found
