"""The parts of a model card about subgroups: metrics in bins, and the bins that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.drawing.scale import grouped, significant
from hpctrain.report.validation_file import ValidationFile
from hpctrain.validation.model_card.markdown import code, escaped, interval, table

_SHOWN = ("bias", "nmad", "outliers_0.15", "outliers", "rmse", "accuracy", "macro_f1", "completeness", "purity")
"""Metrics that the tables of the card may have, the most telling ones first."""
MOST_METRICS = 4
MOST_FLAGGED = 10


def _block(found: ValidationFile) -> Mapping[str, Any]:
    block = (found.model_extra or {}).get("bins")
    return block if isinstance(block, Mapping) else {}


def subgroup_lines(found: ValidationFile) -> list[str]:
    """Return the main metrics of each task in the bins of each column; none if no bins were judged."""
    lines: list[str] = []
    for entry in _block(found).get("columns", []):
        for title in found.tasks:
            lines += _table(entry, title, found)
    return ["Bold: differs from the other objects by more than chance.", "", *lines] if lines else []


def _table(entry: Mapping[str, Any], title: str, found: ValidationFile) -> list[str]:
    known = {name for part in entry["bins"] for name in part["tasks"].get(title, {})}
    chosen = [name for name in _SHOWN if name in known][:MOST_METRICS]
    chosen = chosen or [name for name in found.tasks[title].metrics if name in known][:MOST_METRICS]
    rows = []
    for part in entry["bins"]:
        scores = part["tasks"].get(title, {})
        cells = [_score(scores[name]) if name in scores else "–" for name in chosen]
        most = max((score["n"] for score in scores.values()), default=0)
        rows.append([escaped(part["label"]), *cells, grouped(most)])
    labels = [found.tasks[title].metrics[name].label for name in chosen]
    head = f"{escaped(title)} by {code(entry['column'])}:"
    note = [escaped(entry["note"]), ""] if entry.get("note") else []
    return [head, "", *table(["", *map(escaped, labels), "objects"], rows), "", *note] if chosen else []


def _score(score: Mapping[str, Any]) -> str:
    text = interval(score["value"], score["low"], score["high"])
    return f"**{text}**" if score.get("flagged") else text


def flagged_lines(found: ValidationFile) -> Iterator[str]:
    """Yield the bins that are worse than the other objects by more than chance, with the metrics that say so."""
    worse: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for flag in _block(found).get("flagged", []):
        task = found.tasks.get(flag["task"])
        metric = task.metrics.get(flag["metric"]) if task is not None else None
        if metric is not None and _is_worse(metric.better, flag["inside"], flag["outside"]):
            worse.setdefault((flag["task"], flag["column"], flag["bin"]), []).append({**flag, "label": metric.label})
    for (task_name, column, label), flags in list(worse.items())[:MOST_FLAGGED]:
        numbers = "; ".join(
            f"{escaped(flag['label'])} {significant(flag['inside'])} (others {significant(flag['outside'])})"
            for flag in flags[:MOST_METRICS]
        )
        objects = f"{grouped(flags[0]['num_objects'])} objects"
        yield f"{escaped(task_name)} is worse for {code(column)} {escaped(label)} ({objects}): {numbers}."
    if len(worse) > MOST_FLAGGED:
        yield f"{len(worse) - MOST_FLAGGED} more bins are worse than the others; results/validation.json has them."


def _is_worse(better: str, inside: float | None, outside: float | None) -> bool:
    if inside is None or outside is None:
        return True
    if better == "zero":
        return abs(inside) > abs(outside)
    return inside > outside if better == "lower" else inside < outside
