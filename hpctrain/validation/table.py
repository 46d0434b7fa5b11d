"""A validation as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpctrain.drawing.scale import DASH, grouped, significant

_BETTER = {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best"}
_PER_CLASS = ("completeness", "purity", "f1", "roc_auc", "average_precision")
"""Metrics of single classes, in the order of their table."""
_NAMES = {"f1": "F1", "roc_auc": "area under ROC", "average_precision": "average precision"}
MOST_CONFUSED = 12
"""Largest number of classes whose confusion is printed."""


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of tables of all metrics with their intervals.

    Parameters
    ----------
    found : mapping
        Contents of ``validation.json``.
    """
    yield (
        f"{found['run']} ({found['family']}): {grouped(found['num_objects'])} held-out objects, "
        f"intervals of {100 * found['confidence']:g} %"
    )
    notes: list[str] = []
    for title, task in found["tasks"].items():
        yield ""
        yield f"{title} ({task['kind']})"
        own = {name: metric for name, metric in task["metrics"].items() if not _is_of_class(name)}
        if own:
            yield from _aligned(
                [("", "value", "interval", "objects", ""), *(_row(each, notes) for each in own.values())]
            )
        classes = {name: metric for name, metric in task["metrics"].items() if _is_of_class(name)}
        if classes:
            yield ""
            yield from _aligned(_class_rows(classes, notes))
        if "confusion" in task and len(task["confusion"]["classes"]) <= MOST_CONFUSED:
            yield ""
            yield from _confusion(task["confusion"])
        if "stability" in task:
            kept = task["stability"]
            yield (
                f"  stability: adjusted Rand index {significant(kept['ari'])} ± {significant(kept['scatter'])} between "
                f"{kept['resamples']} resamples"
            )
    yield from _legend(notes)
    yield from _gates(found.get("gates") or [])


def _gates(gates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if gates:
        yield ""
        yield f"gates: {sum(gate['passed'] for gate in gates)} of {len(gates)} kept"
    for gate in gates:
        yield f"  {'kept  ' if gate['passed'] else 'FAILED'}  {gate['asked']}: {gate['said']}"


def _is_of_class(name: str) -> bool:
    return name.partition(".")[0] in _PER_CLASS and "." in name


def _row(metric: Mapping[str, Any], notes: list[str]) -> tuple[str, ...]:
    unit = f" [{metric['unit']}]" if metric["unit"] else ""
    ends = _ends(metric) + _mark(metric, notes)
    return metric["label"] + unit, _number(metric["value"]), ends, grouped(metric["n"]), _BETTER[metric["better"]]


def _class_rows(metrics: Mapping[str, Any], notes: list[str]) -> list[tuple[str, ...]]:
    """Return a row for each class: its objects, and its metrics with their intervals."""
    classes = list(dict.fromkeys(name.partition(".")[2] for name in metrics))
    of = [each for each in _PER_CLASS if any(name.startswith(f"{each}.") for name in metrics)]
    rows = [("class", "objects", *(_NAMES.get(each, each) for each in of))]
    for name in classes:
        cells = []
        for each in of:
            metric = metrics.get(f"{each}.{name}")
            known = metric is not None and metric["value"] is not None
            cells.append(f"{metric['value']:.3f} ({_ends(metric, 3)}){_mark(metric, notes)}" if known else DASH)
        rows.append((name, grouped(metrics[f"completeness.{name}"]["n"]), *cells))
    return rows


def _confusion(confusion: Mapping[str, Any]) -> Iterator[str]:
    names = confusion["classes"]
    counts = [(name, *map(grouped, line)) for name, line in zip(names, confusion["true_by_predicted"], strict=True)]
    yield from _aligned([("true, predicted as", *names), *counts])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of texts as columns, the first and a last one without a heading to the left, others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    words = not rows[0][-1]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if not place or (words and place == len(row) - 1) else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _mark(metric: Mapping[str, Any], notes: list[str]) -> str:
    """Return the number of the remark about an interval; blank where there is none."""
    note = metric.get("note")
    if not note:
        return ""
    if note not in notes:
        notes.append(note)
    return f" [{notes.index(note) + 1}]"


def _legend(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield ""
    for number, note in enumerate(notes, start=1):
        yield f"[{number}] {note}: take the interval with care"


def _ends(metric: Mapping[str, Any], decimals: int | None = None) -> str:
    if metric["low"] is None or metric["high"] is None:
        return DASH
    if decimals is not None:
        return f"{metric['low']:.{decimals}f} to {metric['high']:.{decimals}f}"
    return f"{_number(metric['low'])} to {_number(metric['high'])}"


def _number(value: float | None) -> str:
    return DASH if value is None else significant(value)
