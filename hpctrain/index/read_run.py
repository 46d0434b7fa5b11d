"""A run directory as rows: what it is, its attempts, evaluations, settings, judgement and data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hpctrain.cost.hours import lengths_of
from hpctrain.errors import ProfileError
from hpctrain.files import read_text
from hpctrain.index import tables
from hpctrain.index.read_more import add_curves, advice_for, parent_of
from hpctrain.index.rows import Rows, as_json, id_of, plain
from hpctrain.index.units import FOLD, TRIAL, Unit
from hpctrain.launch.history import EndedAttempt
from hpctrain.launch.history import read_history as read_ended
from hpctrain.launch.lastwords import LastWords, read_last_words
from hpctrain.launch.status import recorded_state
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.plugins import DEFAULT_FAMILY
from hpctrain.profile.lookup import find_family
from hpctrain.profile.yaml_text import parse_yaml
from hpctrain.records import Record, is_number, parse_json
from hpctrain.rundir import RunDir, read_json
from hpctrain.states import ENDED_BEATS, LOST, RUNNING, SILENT_BEATS, UNREADABLE

MOST_EVALUATIONS = 200
"""Largest number of evaluations of a run that are kept, evenly spaced, with the first, the best and the last."""
_MOST_METRICS = 500
_MOST_SETTINGS = 2000
_PARTS = re.compile(r"(?m)^(?=[a-z_]+:)")
_KEY = re.compile(r"(?m)^(?=  [a-z_])")
_KEYS = re.compile(r"(?:  [a-z_][^\n]*\n(?:  [ -][^\n]*\n)*)+")
_PLAIN = re.compile(r"\A(?:[a-z_]+:(?: [^&*|>{\[\n]*)?\n(?:[ -][^&*\n]*\n)*)*\Z")
"""A profile as ``dump_profile`` writes it: its sections can be read one by one."""
_DECODER = json.JSONDecoder()
_NO_METRIC = frozenset(("kind", "event", "step", "time", "attempt"))


def run_rows(unit: Unit) -> Rows:
    """Return the rows of a run directory.

    Parameters
    ----------
    unit : Unit
        Of a run, a trial, a fold or a stage that trains.
    """
    run, rows = RunDir(unit.path), Rows()
    sections = _sections(run)
    profile = _together(sections)
    words, ended, leases = read_last_words(run), read_ended(run), run.read_attempts()
    all_beats = run.read_heartbeats()
    beats = _newest(all_beats)
    history = read_history(run)
    objective = _objective(profile)
    best = history.best_evaluation(objective)
    _add_settings(rows, unit.id, sections)
    _add_evaluations(rows, unit.id, history.evaluations, best)
    add_curves(rows, unit.id, history)
    num_attempts = _add_attempts(rows, unit.id, leases, ended)
    provenance = read_json(run.provenance)
    _add_data(rows, unit.id, provenance)
    state = _state(run, words, ended, beats, leases)
    facts = {
        **_who_and_where(run, unit, profile, provenance, leases),
        **state,
        "step": max([words.step, *(beat.get("step", 0) for beat in beats)]),
        "total_steps": max([words.total_steps, *(beat.get("total_steps", 0) for beat in beats)]) or None,
        "loss": words.loss,
        "objective": objective.metric,
        "lower_is_better": objective.lower_is_better,
        "best": (best or {}).get(objective.metric),
        "best_step": (best or {}).get("step"),
        "evaluations": len(history.evaluations),
        "attempts": num_attempts,
        "gpu_hours": _gpu_hours(leases, ended, all_beats),
        "kwh": sum_up(read_ledgers(run)).kwh,
        "gates": _add_judgement(rows, unit.id, run),
        "parent": parent_of(provenance),
        "advice": advice_for(run, history, profile),
    }
    rows.add(tables.runs, id=unit.id, path=unit.path, kind=unit.kind, **facts)
    if unit.kind == TRIAL:
        rows.extend(trial_rows(unit, facts["state"]))
    return rows


def locked_rows(unit: Unit, reason: str = "") -> Rows:
    """Return the only row of a run that cannot be read."""
    rows, run = Rows(), RunDir(unit.path)
    known = {"name": run.name, "run_id": run.run_id, "state": UNREADABLE, "detail": reason}
    rows.add(tables.runs, id=unit.id, path=unit.path, kind=unit.kind, **known)
    return rows


@dataclass(frozen=True)
class _Section:
    """A part of a profile: the section it stands in, its values, and the same as keys with dots, numbers and texts."""

    above: str
    values: Mapping[str, Any]
    settings: tuple[tuple[str, float | None, str], ...]


def _sections(run: RunDir) -> list[_Section]:
    """Return the parts of the profile of a run; none if it is missing or damaged."""
    try:
        text = read_text(run.profile)
        if not _PLAIN.search(text):
            return [_section("", text)]
        return [found for part in _PARTS.split(text) if part for found in _keys_of(part)]
    except (OSError, ProfileError):
        return []


def _keys_of(part: str) -> list[_Section]:
    """Return the keys of a section one by one, if each begins in a line of its own, else the section."""
    head, _, body = part.partition("\n")
    if not head.endswith(":") or not _KEYS.fullmatch(body):
        return [_section("", part)]
    return [_section(head[:-1], key) for key in _KEY.split(body) if key]


@lru_cache(maxsize=5000)
def _section(above: str, text: str) -> _Section:
    """Read a part of a profile; most runs share most of their keys."""
    found = parse_yaml(text, "profile.yaml").data
    values = found if isinstance(found, dict) else {}
    return _Section(above, values, tuple(_flat(values, f"{above}." if above else "")))


def _together(sections: list[_Section]) -> dict[str, Any]:
    profile: dict[str, Any] = {}
    for section in sections:
        if section.above:
            profile.setdefault(section.above, {}).update(section.values)
        else:
            profile.update(section.values)
    return profile


def _objective(profile: Mapping[str, Any]) -> Objective:
    """Return what decides which evaluation is the best; the loss, if the family is not installed here."""
    model = profile.get("model")
    name = model.get("family", DEFAULT_FAMILY) if isinstance(model, dict) else DEFAULT_FAMILY
    try:
        return find_family(str(name)).objective
    except (Exception, SystemExit):  # of the module of another package
        return Objective()


def _gpu_hours(leases: list[Record], ended: list[EndedAttempt], beats: list[Record]) -> float:
    return round(sum(seconds / 3600 * ranks for seconds, ranks in lengths_of(leases, ended, beats)), 6)


def _newest(beats: list[Record]) -> list[Record]:
    newest = max((beat.get("attempt", 0) for beat in beats), default=0)
    return [beat for beat in beats if beat.get("attempt", 0) == newest]


def _state(
    run: RunDir, words: LastWords, ended: list[EndedAttempt], beats: list[Record], leases: list[Record]
) -> dict[str, Any]:
    """Return the state that the disk alone gives, and until when a running one counts as alive without a heartbeat."""
    job = run.read_job()
    submissions = job.get("submissions") or []
    state, detail = recorded_state(words, ended, bool(beats), bool(submissions))
    alive = [beat for beat in beats if beat.get("state") not in ENDED_BEATS]
    until = max((beat.get("time", 0) + SILENT_BEATS * beat.get("interval_s", 10) for beat in alive), default=None)
    if state == RUNNING and until is None:
        state = LOST
    ends = [each.time for each in ended] + [beat["time"] for beat in beats if "time" in beat]
    return {
        "state": state,
        "detail": detail,
        "silent_after": until if state == RUNNING else None,
        "exit_code": None if state == RUNNING else ended[-1].exit_code if ended else words.exit_code,
        "cluster": job.get("cluster"),
        "job_id": submissions[-1]["job_id"] if submissions else None,
        "submitted_at": submissions[0].get("submitted_at") if submissions else job.get("submitted_at"),
        "started_at": min((each.get("started_at", 0.0) for each in leases), default=None) or None,
        "ended_at": None if state == RUNNING else max(ends, default=None),
    }


def _who_and_where(
    run: RunDir, unit: Unit, profile: Mapping[str, Any], provenance: Any, leases: list[Record]
) -> dict[str, Any]:
    origin = provenance if isinstance(provenance, dict) else {}
    project, code = (origin.get(name) for name in ("project", "code"))
    git = next((each["git"] for each in (project, code) if isinstance(each, dict) and each.get("git")), None)
    model = profile.get("model")
    in_study = unit.kind in (TRIAL, FOLD)
    parent = id_of(unit.parent) if unit.parent else None
    return {
        "name": profile.get("name") if in_study and profile.get("name") else run.name,
        "run_id": run.run_id,
        "description": profile.get("description"),
        "family": (model or {}).get("family", DEFAULT_FAMILY) if profile and isinstance(model or {}, dict) else None,
        "platform": profile.get("platform"),
        "ranks": leases[-1].get("world_size") if leases else None,
        "submitter": origin.get("user"),
        "host": origin.get("host"),
        "hpctrain": origin.get("hpctrain"),
        "git_commit": git.get("commit") if isinstance(git, dict) else None,
        "study_id": parent if in_study else None,
        "pipeline_id": parent if parent is not None and not in_study else None,
    }


def _add_settings(rows: Rows, run_id: int, sections: list[_Section]) -> None:
    found = [setting for section in sections for setting in section.settings][:_MOST_SETTINGS]
    for key, number, text in found:
        rows.add_plain(tables.settings, (key, run_id, number, text))


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float | None, str]]:
    """Yield the keys of a profile with dots, and their values; keys that are not set are left out."""
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{before}{name}.")
        elif item is not None and item != {}:
            number = float(item) if is_number(item) else None
            text = item if isinstance(item, str) else repr(item) if number is not None else as_json(item)
            yield plain(f"{before}{name}"), number, plain(text)


def _add_evaluations(rows: Rows, run_id: int, records: list[Record], best: Record | None) -> None:
    kept = {round(index * (len(records) - 1) / (MOST_EVALUATIONS - 1)) for index in range(MOST_EVALUATIONS)}
    values: dict[str, list[float]] = {}
    for place, record in enumerate(records):
        numbers = {name: value for name, value in record.items() if name not in _NO_METRIC and is_number(value)}
        for name, value in numbers.items():
            values.setdefault(name, []).append(float(value))
        if len(records) <= MOST_EVALUATIONS or place in kept or record is best:
            facts = {"step": record["step"], "attempt": record.get("attempt"), "at": record["time"]}
            rows.add(tables.evaluations, run_id=run_id, place=place, is_best=record is best, **facts)
            for name, value in list(numbers.items())[:_MOST_METRICS]:
                rows.add_plain(tables.points, (plain(name), run_id, place, plain(float(value))))
    for name, found in list(values.items())[:_MOST_METRICS]:
        ends = {"last": found[-1], "lowest": min(found), "highest": max(found)}
        rows.add(tables.metrics, metric=name, run_id=run_id, best=(best or {}).get(name), **ends)


def _add_attempts(rows: Rows, run_id: int, leases: list[Record], ended: list[EndedAttempt]) -> int:
    """Add the attempts, and those that ended before their trainer had started; return their number."""
    ends = {(each.job_id, each.restart): each for each in ended}
    found: list[tuple[float, dict[str, Any]]] = []
    for lease in leases:
        end = ends.pop((lease.get("job_id", ""), lease.get("restart_count", 0)), None)
        facts = {
            "attempt": lease["attempt"],
            "job_id": lease.get("job_id"),
            "restart": lease.get("restart_count"),
            "ranks": lease.get("world_size"),
            "nodes": lease.get("num_nodes"),
            "hosts": lease.get("hosts"),
            "started_at": lease.get("started_at"),
        }
        found.append((lease.get("started_at", 0.0), facts | _end(end)))
    for end in ends.values():
        found.append((end.time, {"job_id": end.job_id, "restart": end.restart} | _end(end)))
    for place, (_, facts) in enumerate(sorted(found, key=lambda item: item[0]), 1):
        rows.add(tables.attempts, run_id=run_id, place=place, **facts)
    return len(found)


def _end(end: EndedAttempt | None) -> dict[str, Any]:
    return {} if end is None else {"ended_at": end.time, "exit_code": end.exit_code, "followed": end.followed}


def _add_data(rows: Rows, run_id: int, provenance: Any) -> None:
    files = provenance.get("data") if isinstance(provenance, dict) else None
    add_data_files(rows, run_id, 0, files)


def add_data_files(rows: Rows, unit_id: int, owner: int, files: Any) -> None:
    """Add data files as ``provenance.json`` and ``lineage.json`` list them."""
    listed = [each for each in files if isinstance(each, dict)] if isinstance(files, list) else []
    for place, each in enumerate(listed):
        columns = each.get("columns")
        digest = hashlib.sha256(as_json(columns).encode()).hexdigest() if columns else None
        facts = {name: each.get(name) for name in ("path", "bytes", "modified", "hashes")}
        rows.add(tables.data_files, unit_id=unit_id, owner=owner, place=place, digest=digest, **facts)


def _judgement(run: RunDir) -> Any:
    """Return tasks and gates of ``validation.json``; the figures in it are a hundred times longer."""
    try:
        text = read_text(run.validation)
        marks = {name: f'\n  "{name}": ' for name in ("tasks", "gates")}  # as write_json writes an outermost key
        begins = {name: at + len(marks[name]) for name in marks if (at := text.find(marks[name])) >= 0}
        if not begins:
            return parse_json(text)
        return {name: _DECODER.raw_decode(text, at)[0] for name, at in begins.items()}
    except (OSError, ValueError):
        return None


def _add_judgement(rows: Rows, run_id: int, run: RunDir) -> str | None:
    """Add what ``hpctrain validate`` has found; return whether the gates have passed, None without gates."""
    found = _judgement(run)
    if not isinstance(found, dict):
        return None
    tasks = found.get("tasks")
    for task, facts in tasks.items() if isinstance(tasks, dict) else ():
        listed = facts.get("metrics") if isinstance(facts, dict) else None
        for metric, each in listed.items() if isinstance(listed, dict) else ():
            if isinstance(each, dict) and is_number(each.get("value")):
                known = {name: each.get(name) for name in ("value", "low", "high", "unit", "better")}
                rows.add(tables.judged, task=task, metric=metric, run_id=run_id, objects=each.get("n"), **known)
    listed = found.get("gates")
    gates = [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []
    for place, gate in enumerate(gates):
        facts = {name: gate.get(name) for name in ("metric", "asked", "said")}
        rows.add(tables.gates, run_id=run_id, place=place, passed=gate.get("passed") is True, **facts)
    if not gates:
        return None
    return "passed" if all(gate.get("passed") is True for gate in gates) else "failed"


def trial_rows(unit: Unit, state: str) -> Rows:
    """Return what the sampler chose and how a trial ended; until that is written, it has the given state."""
    run, rows = RunDir(unit.path), Rows()
    asked, outcome = (read_json(run.path / name, {}) for name in ("trial.json", "outcome.json"))
    found = {**(asked if isinstance(asked, dict) else {}), **(outcome if isinstance(outcome, dict) else {})}
    scores = found.get("scores")
    known = {name: found.get(name) for name in ("asked_at", "ended_at", "gpu_hours", "kwh", "reason")}
    rows.add(
        tables.trials,
        id=unit.id,
        study_id=id_of(unit.parent),
        number=int(run.path.name),
        state=found.get("state", state),
        chosen=as_json(found.get("values", {})),
        score=scores[0] if isinstance(scores, list) and scores and is_number(scores[0]) else None,
        scores=None if scores is None else as_json(scores),
        **known,
    )
    return rows
