"""A comparison as text for people: the verdict first, then the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpctrain.drawing.scale import DASH, grouped, significant
from hpctrain.profile.resume import show
from hpctrain.validation.comparison.background import Row

_LONGEST = 40
ARROWS = {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best"}


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a comparison.

    Parameters
    ----------
    found : mapping
        What :func:`~hpctrain.validation.comparison.compare.compare` returns.
    """
    yield from (pair["verdict"] for pair in found["pairs"])
    yield ""
    yield sample_sentence(found)
    for note in found["notes"]:
        yield f"note: {note}"
    if len(found["runs"]) > 2:
        for title, task in found["tasks"].items():
            yield ""
            yield from aligned([ranking_head(task), *ranking_rows(found, title)], indent=2)
    for pair in found["pairs"]:
        for title, task in pair["tasks"].items():
            yield ""
            yield f"{title}: {pair['first']} and {pair['second']}"
            yield from aligned([pair_head(pair, found), *pair_rows(task)], indent=2)
            if notes := sorted({each["note"] for each in task["metrics"].values() if each["note"]}):
                yield from (f"  note: {note}" for note in notes)
    if found["profile"]:
        yield ""
        yield from aligned([["profile", *names_of(found)], *value_rows(found["profile"])], indent=2)


def names_of(found: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs."""
    return [each["name"] for each in found["runs"]]


def sample_sentence(found: Mapping[str, Any]) -> str:
    """Return on how many objects the runs are compared, and what was drawn."""
    objects = f"Compared on {grouped(found['num_objects'])} objects that all runs held out"
    times = f"drawn anew {grouped(found['draws'])} times"
    if found["by"] == "object":
        return f"{objects}; they are {times}."
    groups = "cells of the sky" if found["by"] == "sky" else f"groups of the same {found['by']}"
    return f"{objects}, in {grouped(found['num_groups'])} {groups}, which are {times}."


def pair_head(pair: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the heads of the columns of :func:`pair_rows`."""
    share = f"{100 * found['confidence']:g} % interval"
    return ["", pair["first"], pair["second"], "difference", share, "change", "p", "p (Holm)", "test"]


def pair_rows(task: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each metric of a pair of runs, and one for each further test."""
    rows = []
    for values in task["metrics"].values():
        unit = f" [{values['unit']}]" if values["unit"] else ""
        rows.append(
            [
                values["label"] + unit,
                *(number(values[key]) for key in ("first", "second", "value")),
                interval(values),
                change(values["relative"]),
                chance(values["p"]),
                chance(values["p_holm"]),
                values["test"],
            ]
        )
        if is_known(values["signed_rank"]):
            better = f"better for {100 * values['superiority']:.0f} %" if is_known(values["superiority"]) else ""
            tests = [chance(values["signed_rank"]), chance(values["signed_rank_holm"]), "signed rank"]
            rows.append(["  object by object", "", "", "", f"d = {number(values['cohen_d'])}", better, *tests])
        if over := values.get("over_folds"):
            own = [
                number(over["value"]),
                interval(over),
                "",
                chance(over["p"]),
                "",
                f"t over {over['num_pairs']} folds",
            ]
            rows.append(["  mean of folds", "", "", *own])
    return rows


def ranking_head(task: Mapping[str, Any]) -> list[str]:
    """Return the heads of the columns of :func:`ranking_rows`."""
    metric = task["metrics"][task["deciding"]]
    return ["rank", "run", metric["label"], "interval", "difference", "interval", "p (Holm)"]


def ranking_rows(found: Mapping[str, Any], title: str) -> list[list[str]]:
    """Return the runs by the deciding metric of a label, the best first, beside the baseline where there is one."""
    task = found["tasks"][title]
    rows = []
    for place, name in enumerate(task["ranking"], 1):
        own = task["metrics"][task["deciding"]]["runs"][name]
        against = ["", "", ""]
        for pair in found["pairs"]:
            if found["baseline"] == pair["first"] and pair["second"] == name:
                values = pair["tasks"][title]["metrics"][task["deciding"]]
                against = [number(values["value"]), interval(values), chance(values["p_holm"])]
        if name == found["baseline"]:
            against = ["baseline", "", ""]
        rows.append([str(place), name, number(own["value"]), interval(own), *against])
    return rows


def value_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return keys with their values in each run, as a profile writes them."""
    return [
        [row["key"], *(_short(show(value)) if value is not None else DASH for value in row["values"])] for row in rows
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def is_known(value: float | None) -> bool:
    """Return whether a number is there and finite."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Return a number with four significant digits, or a dash."""
    return significant(value) if is_known(value) else DASH


def interval(values: Mapping[str, Any]) -> str:
    """Return the ends of an interval."""
    return f"{number(values['low'])} to {number(values['high'])}" if is_known(values["low"]) else DASH


def change(value: float | None) -> str:
    """Return a relative change in per cent."""
    return f"{100 * value:+.1f} %".replace("-", "−") if is_known(value) else DASH  # type: ignore[operator]


def chance(value: float | None) -> str:
    """Return a p value."""
    if not is_known(value):
        return DASH
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"  # type: ignore[operator, str-bytes-safe]


def aligned(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Yield rows as lines with aligned columns; the first column begins at the left, the others end at the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        yield (" " * indent + "  ".join(cells)).rstrip()
