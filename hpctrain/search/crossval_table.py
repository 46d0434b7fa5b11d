"""A cross-validation as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.drawing.scale import DASH, grouped, significant

_HEADS = ("", "mean of folds", "standard error", "interval", "all objects", "interval", "")
_ARROWS = {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best"}


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of all metrics.

    Parameters
    ----------
    found : mapping
        Contents of ``crossval.json``.
    """
    times = f", {found['repeats']} times" if found["repeats"] > 1 else ""
    yield f"{found['study']} ({found['family']}): {found['folds']} folds{times}"
    yield (
        f"{grouped(found['num_objects'])} objects, each predicted by a model that has not seen it; intervals of "
        f"{100 * found['confidence']:g} %"
    )
    for title, task in found["tasks"].items():
        yield ""
        yield f"{title} ({task['kind']})"
        yield from _aligned([_HEADS, *map(_row, task["metrics"].values())])
    yield ""
    yield "mean of folds: its standard error allows for the training objects that folds share (Nadeau & Bengio 2003)"
    yield "all objects: the predictions of all folds together; its interval comes from drawing objects anew"


def _row(metric: Mapping[str, Any]) -> tuple[str, ...]:
    unit = f" [{metric['unit']}]" if metric["unit"] else ""
    pooled = metric["pooled"]
    means = (_number(metric["mean"]), _number(metric["standard_error"]), _ends(metric))
    return (metric["label"] + unit, *means, _number(pooled["value"]), _ends(pooled), _ARROWS[metric["better"]])


def _ends(values: Mapping[str, Any]) -> str:
    return DASH if values["low"] is None else f"{_number(values['low'])} to {_number(values['high'])}"


def _number(value: float | None) -> str:
    return DASH if value is None else significant(value)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for name, *cells, last in rows:
        shown = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True))
        yield f"  {name:<{widths[0]}}  {shown}  {last}".rstrip()
