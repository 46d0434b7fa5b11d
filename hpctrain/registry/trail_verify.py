"""Whether the audit trail is whole: the chain of its entries, and an entry for every change of the registry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpctrain.errors import CheckpointError
from hpctrain.registry.aliases import history_of
from hpctrain.registry.folder import Registry
from hpctrain.registry.signatures import signature_files
from hpctrain.registry.version import read_version
from hpctrain.rundir import file_digest
from hpctrain.trail.chain import FILE, Damaged, Entry, read_trail


@dataclass
class TrailReport:
    """What the verification of a trail has found.

    Parameters
    ----------
    num_entries : int
    head : str or None
        SHA-256 of the last entry. Who notes it elsewhere can prove later that no entry before it was taken away.
    faults : list of str
    notes : list of str
        Unfinished lines of writers that were killed; they are no fault.
    """

    num_entries: int = 0
    head: str | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_trail(registry: Registry, head: str | None = None) -> TrailReport:
    """Verify the audit trail of a registry.

    Parameters
    ----------
    registry : Registry
    head : str, optional
        SHA-256 of an entry that was noted elsewhere, which must be in the trail.
    """
    report = TrailReport()
    tokens, heads = set(), set()
    damaged: Damaged | None = None
    for item in read_trail(registry.path / FILE):
        if isinstance(item, Damaged):
            damaged = item
            continue
        report.faults += _faults(item, report, damaged)
        if damaged is not None and _is_attested(item, damaged):
            size = len(damaged.content)
            report.notes.append(f"entry {item.facts['number']} skips {size} bytes of a writer that was killed")
        damaged = None
        report.num_entries, report.head = item.facts["number"], item.digest
        heads.add(item.digest)
        details = item.facts["details"] or {}
        tokens |= {details.get("token"), details.get("sha256")}
    if damaged is not None:
        report.notes.append(f"the last {len(damaged.content)} bytes are an unfinished line; the next entry skips them")
    if head is not None and head not in heads:
        report.faults.append(f"no entry has the SHA-256 {head}; entries were taken away or changed")
    report.faults += [
        f"no entry says who did this: {what}" for what, token in _changes(registry) if token not in tokens
    ]
    return report


def _is_attested(entry: Entry, damaged: Damaged) -> bool:
    digest = hashlib.sha256(damaged.content).hexdigest()
    return entry.facts["skipped"] == {"bytes": len(damaged.content), "sha256": digest}


def _faults(entry: Entry, report: TrailReport, damaged: Damaged | None) -> Iterator[str]:
    number = entry.facts["number"]
    if number != report.num_entries + 1:
        yield f"entry {number} follows entry {report.num_entries}; entries are missing"
    if entry.facts["before"] != report.head:
        yield f"entry {number} does not follow the entry before it, which was changed after it was written"
    if damaged is not None and not _is_attested(entry, damaged):
        yield f"before entry {number} are {len(damaged.content)} bytes that are no entry; an entry was changed"
    if damaged is None and entry.facts["skipped"] is not None:
        yield f"entry {number} skips an unfinished line that is missing"


def _changes(registry: Registry) -> Iterator[tuple[str, str]]:
    """Yield every version, signature and move of an alias, with the token, or the SHA-256, that its entry has."""
    for name in registry.names():
        model = registry.model(name)
        for number in model.numbers():
            try:
                yield f"add {name}:{number}", read_version(model, number).facts["token"]
            except CheckpointError as error:
                yield f"add {name}:{number} ({error})", ""
        for path in signature_files(model):
            yield f"sign {path.relative_to(model.path)} of {name}", file_digest(path)
        for alias in model.alias_names():
            try:
                for move in history_of(model, alias):
                    yield f"{move.facts['action']} {name}:{move.to} to {alias}", move.facts["token"]
            except CheckpointError as error:
                yield f"move of {name}@{alias} ({error})", ""
