"""A validation as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpctrain.drawing.scale import grouped, significant

_ARROWS = {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best"}


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of all metrics with their intervals.

    Parameters
    ----------
    found : mapping
        Contents of ``validation.json``.
    """
    share = f"{100 * found['confidence']:g} %"
    yield f"{found['run']} ({found['family']}): {grouped(found['num_objects'])} held-out objects"
    for title, task in found["tasks"].items():
        rows = [("", "value", f"{share} interval", "objects", "")]
        for metric in task["metrics"].values():
            unit = f" [{metric['unit']}]" if metric["unit"] else ""
            ends = f"{_number(metric['low'])} to {_number(metric['high'])}"
            number = grouped(metric["n"])
            rows.append((metric["label"] + unit, _number(metric["value"]), ends, number, _ARROWS[metric["better"]]))
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        yield ""
        yield f"{title} ({task['kind']})"
        for name, value, ends, number, arrow in rows:
            line = f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {ends:>{widths[2]}}  {number:>{widths[3]}}  {arrow}"
            yield line.rstrip()
    yield from _gates(found.get("gates") or [])


def _gates(gates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if gates:
        yield ""
        yield f"gates: {sum(gate['passed'] for gate in gates)} of {len(gates)} kept"
    for gate in gates:
        yield f"  {'kept  ' if gate['passed'] else 'FAILED'}  {gate['asked']}: {gate['said']}"


def _number(value: float | None) -> str:
    return "-" if value is None else significant(value)
