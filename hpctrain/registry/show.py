"""Models, versions and histories for people, and as plain values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.drawing.scale import grouped
from hpctrain.registry.actions import find_version
from hpctrain.registry.aliases import aliases_of, history_of
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.gates import gates_of
from hpctrain.registry.names import read_reference
from hpctrain.registry.seen import SIDES, Seen, read_lineage
from hpctrain.registry.signatures import keys_of
from hpctrain.registry.version import Version, read_version


def version_json(version: Version) -> dict[str, Any]:
    """Return a version as plain values."""
    report = gates_of(version)
    return {
        **{key: value for key, value in version.facts.items() if key not in ("format", "version", "token")},
        "path": str(version.path),
        "signed_with": keys_of(version),
        "gates": {"passed": report.passed, "number": report.number, "reasons": list(report.reasons)},
    }


def list_json(registry: Registry) -> list[dict[str, Any]]:
    """Return name, numbers of versions, and aliases of each model."""
    models = map(registry.model, registry.names())
    return [{"name": each.name, "versions": each.numbers(), "aliases": aliases_of(each)} for each in models]


def list_lines(registry: Registry) -> Iterator[str]:
    """Yield a table of the models."""
    found = list_json(registry)
    if not found:
        yield f"no models in {registry.path}"
        return
    rows = [("model", "versions", "aliases")]
    for each in found:
        aliases = ", ".join(f"{alias} = {number}" for alias, number in each["aliases"].items()) or "-"
        rows.append((each["name"], str(len(each["versions"])), aliases))
    yield from _table(rows)


def show_json(text: str, registry: Registry) -> dict[str, Any]:
    """Return a version as plain values; for a name alone, the model with its versions and history."""
    reference = read_reference(text)
    if reference.alias or reference.number:
        return version_json(find_version(text, registry))
    model = registry.existing(reference.name)
    return {
        "name": model.name,
        "aliases": aliases_of(model),
        "versions": [version_json(read_version(model, number)) for number in model.numbers()],
        "history": [dict(move.facts) for move in _moves(model)],
    }


def show_lines(text: str, registry: Registry) -> Iterator[str]:
    """Yield a version, or for a name alone the model with its versions and history, for people."""
    reference = read_reference(text)
    if reference.alias or reference.number:
        yield from _version_lines(find_version(text, registry))
        return
    model = registry.existing(reference.name)
    aliases = aliases_of(model)
    rows = [("version", "aliases", "added", "by", "run", "gates", "note")]
    for number in model.numbers():
        version = read_version(model, number)
        named = ", ".join(alias for alias, meant in aliases.items() if meant == number) or "-"
        rows.append((str(number), named, *_origin(version), _short_gates(version), version.facts["note"]))
    yield from _table(rows)
    moves = _moves(model)
    if moves:
        yield ""
        yield "history, newest last"
    for move in moves:
        yield "  " + _move_line(move.facts)
        yield f"      why: {move.facts['why']}; gates: {move.facts['gates']}"


def _moves(model: ModelFolder) -> list[Any]:
    moves = [move for alias in model.alias_names() for move in history_of(model, alias)]
    return sorted(moves, key=lambda move: move.facts["when"])


def _move_line(facts: Mapping[str, Any]) -> str:
    before = "-" if facts["from"] is None else str(facts["from"])
    who = f"{facts['who']['user']}@{facts['who']['host']}"
    return f"{_time(facts['when'])}  {who}  {facts['action']} {facts['alias']}: {before} -> {facts['to']}"


def _origin(version: Version) -> tuple[str, str, str]:
    added, run = version.facts["added"], version.facts["run"]
    return _time(added["when"]), added["user"], f"{run['name']}/{run['run_id']}"


def _short_gates(version: Version) -> str:
    report = gates_of(version)
    return "passed" if report.passed else "failed" if report.number else "none"


def _version_lines(version: Version) -> Iterator[str]:
    when, user, run = _origin(version)
    yield f"{version}: {version.facts['family']}, from run {run}"
    yield f"  added   {when} by {user}@{version.facts['added']['host']}"
    if version.facts["note"]:
        yield f"  note    {version.facts['note']}"
    yield f"  gates   {gates_of(version)}"
    aliases = [alias for alias, number in aliases_of(version.model).items() if number == version.number]
    yield f"  aliases {', '.join(aliases) or '-'}"
    yield f"  signed  {', '.join(f'key {key}' for key in keys_of(version)) or '-'}"
    yield f"  folder  {version.path}"
    for name, facts in version.files.items():
        yield f"  {facts['sha256']}  {grouped(facts['size']):>12} bytes  {name}"


def seen_json(seen: Seen) -> dict[str, Any]:
    """Return a version that has seen something, as plain values."""
    aliases = [alias for alias, number in aliases_of(seen.version.model).items() if number == seen.version.number]
    through = None if seen.through is None else str(seen.through)
    return {"version": str(seen.version), "aliases": aliases, "rows": seen.counts, "through": through}


def seen_lines(what: str, seen: list[Seen]) -> Iterator[str]:
    """Yield a line per version that has seen something."""
    if not seen:
        yield f"no registered version is known to have seen {what}"
    for each in map(seen_json, seen):
        named = f" ({', '.join(each['aliases'])})" if each["aliases"] else ""
        if each["through"]:
            yield f"{each['version']}{named}: began with the weights of {each['through']}, which has seen it"
        else:
            counts = ", ".join(f"{grouped(number)} {side}" for side, number in each["rows"].items() if number)
            yield f"{each['version']}{named}: {counts}"


def lineage_json(version: Version) -> dict[str, Any]:
    """Return where a version comes from, as plain values."""
    facts, rows = read_lineage(version)
    counts = {side: int((rows["side"] == number).sum()) for number, side in enumerate(SIDES)}
    return {"version": str(version), "run": version.facts["run"], **facts, "rows": counts}


def lineage_lines(version: Version) -> Iterator[str]:
    """Yield where a version comes from, for people."""
    found = lineage_json(version)
    yield f"{version}: run {found['run']['path']}"
    for entry in found["files"]:
        yield f"  data    {entry.get('path')}: {grouped(entry.get('bytes') or 0)} bytes, {entry.get('hashes')}"
    yield f"  rows    {', '.join(f'{grouped(number)} {side}' for side, number in found['rows'].items())}"
    yield f"  sources {grouped(len(found['sources']))} raw files"
    if found["started_from"]:
        yield f"  began with the weights of {found['started_from']['path']}"
    for note in found["notes"]:
        yield f"  note: {note}"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
