"""What a comparison of two runs means, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpctrain.drawing.scale import DASH, significant

FIRST, SECOND, NEITHER, UNKNOWN = "first", "second", "neither", "unknown"


def outcome(values: Mapping[str, Any], level: float) -> str:
    """Return which run is better by a metric: ``first``, ``second``, ``neither`` for certain, or ``unknown``.

    Parameters
    ----------
    values : mapping
        A metric of a pair of runs, with its adjusted p value.
    level : float
    """
    p, difference = values.get("p_holm"), values["value"]
    if p is None or math.isnan(p) or not math.isfinite(difference):
        return UNKNOWN
    if p >= level or difference == 0:
        return NEITHER
    return SECOND if (difference > 0) == (values["better"] == "higher") else FIRST


def verdict(pair: Mapping[str, Any], level: float) -> str:
    """Return the sentence about a pair of runs, by the deciding metric of each label.

    Parameters
    ----------
    pair : mapping
        An entry of ``pairs`` of a comparison.
    level : float
        Adjusted p values below it count as a difference.
    """
    parts = []
    for title, task in pair["tasks"].items():
        values = task["metrics"][task["deciding"]]
        parts.append(_part(pair, title, values, outcome(values, level)))
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:] if text[0].islower() and not _names(pair, text) else text


def _names(pair: Mapping[str, Any], text: str) -> bool:
    """Return whether a sentence begins with the name of a run, which keeps its letters."""
    return text.startswith((pair["first"], pair["second"]))


def _part(pair: Mapping[str, Any], title: str, values: Mapping[str, Any], found: str) -> str:
    what = f"{title} {values['label']}"
    unit = f" {values['unit']}" if values["unit"] else ""
    if found == UNKNOWN:
        return f"{what}: nothing can be said, because it is not defined for both runs"
    if found == NEITHER:
        seen = values["detectable"]
        said = f"{what} of {pair['second']} differs by {_signed(values['value'])} ({_ends(values)}){unit}"
        limit = f"; a difference of {significant(seen)} would have been seen with 80 % power" if _known(seen) else ""
        return f"these data cannot tell {pair['first']} and {pair['second']} apart: {said}{limit}"
    better, other = (pair["second"], pair["first"]) if found == SECOND else (pair["first"], pair["second"])
    sign = 1.0 if found == SECOND else -1.0
    value, ends = sign * values["value"], sorted(sign * values[key] for key in ("low", "high"))
    if value < 0:
        ends = [-ends[1], -ends[0]]
    said = "closer to 0" if values["better"] == "zero" else "higher" if value > 0 else "lower"
    by = f"{significant(abs(value))} ({significant(ends[0])} to {significant(ends[1])}){unit}"
    return (
        f"{better} is better than {other}: {what} {said} by {by}{_share(values, FIRST if found == SECOND else SECOND)}"
    )


def _share(values: Mapping[str, Any], other: str) -> str:
    """Return the size of a difference as a share of the worse run's value, where this says something."""
    if not _known(values["relative"]) or not values[other]:
        return ""
    return f", {100 * abs(values['value'] / values[other]):.1f} %"


def _signed(value: float) -> str:
    return f"+{significant(value)}" if value > 0 else significant(value)


def _ends(values: Mapping[str, Any]) -> str:
    return " to ".join(significant(values[key]) if _known(values[key]) else DASH for key in ("low", "high"))


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
