"""The validation of a run as numbers and tags of its tracked run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.metrics.exporters.mark import state_of
from hpctrain.metrics.exporters.subject import News
from hpctrain.records import Record
from hpctrain.rundir import RunDir, file_digest, read_json

KIND = "validation"
_OTHER = re.compile(r"[^\w. /-]")
_MOST_METRICS = 250
"""Metrics of one record: each has a value and two ends of its interval."""


def validation_of(run: RunDir) -> Mapping[str, Any]:
    """Return ``results/validation.json`` of a run; empty if there is none, or if it judges other weights."""
    found = read_json(run.validation)
    weights = run.model / "model.safetensors"
    if not isinstance(found, dict) or not weights.is_file():
        return {}
    return found if found.get("model_sha256") == file_digest(weights) else {}


def gate_tags(found: Mapping[str, Any]) -> dict[str, str]:
    """Return whether all gates have passed, and a line for each."""
    gates = _gates(found)
    tags = {
        f"gate.{number:03d}": f"{_word(gate)}: {gate.get('asked')}: {gate.get('said')}"
        for number, gate in enumerate(gates, start=1)
    }
    if gates:
        tags["gates"] = "passed" if all(gate.get("passed") is True for gate in gates) else "failed"
    return tags


def validation_news(run: RunDir, found: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[News]:
    """Yield the metrics of a validation that a tracker has not received, task by task, and the number of gates."""
    if not found:
        return
    state = state_of(run.validation)
    for key, numbers in _numbers(found):
        if known.get(key) != state:
            yield News(key, state, [_record(run, found, numbers)])


def _numbers(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    tasks = found.get("tasks")
    for title, task in tasks.items() if isinstance(tasks, dict) else ():
        metrics = list(task.get("metrics", {}).items())
        for first in range(0, len(metrics), _MOST_METRICS):
            part = f" {first}" if first else ""
            yield f"{KIND} {title}{part}", dict(_scores(title, metrics[first : first + _MOST_METRICS]))
    if gates := _gates(found):
        passed = sum(gate.get("passed") is True for gate in gates)
        yield f"{KIND} gates", {"gates_passed": passed, "gates_failed": len(gates) - passed}


def _scores(title: str, metrics: list[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, float]]:
    for name, score in metrics:
        for key, ending in (("value", ""), ("low", ".low"), ("high", ".high")):
            value = score.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                yield _OTHER.sub("_", f"{title}.{name}{ending}"), value


def _record(run: RunDir, found: Mapping[str, Any], numbers: Mapping[str, float]) -> Record:
    card = read_json(run.model / "model.json", {})
    step = card.get("weights_step") if isinstance(card, dict) else None
    moment = found.get("made_at") or run.validation.stat().st_mtime
    return {"kind": KIND, "step": step if isinstance(step, int) else 0, "time": moment, **numbers}


def _gates(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = found.get("gates")
    return [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []


def _word(gate: Mapping[str, Any]) -> str:
    return "passed" if gate.get("passed") is True else "failed"
