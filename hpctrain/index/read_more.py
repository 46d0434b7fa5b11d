"""What the page of all runs shows beside the other columns: the losses of a run, its parent, the advice for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpctrain.index import tables
from hpctrain.index.rows import Rows, as_json
from hpctrain.metrics.read import History
from hpctrain.records import Record, is_number
from hpctrain.rundir import RunDir

POINTS = 48
"""Largest number of points of a curve."""
_DIGITS = 5


def add_curves(rows: Rows, run_id: int, history: History) -> None:
    """Add the losses of training and of the evaluations, each with at most :data:`POINTS` points."""
    for part, records in (("train", history.train), ("eval", history.evaluations)):
        steps, losses = thinned(records)
        if steps:
            rows.add(tables.curves, run_id=run_id, part=part, steps=as_json(steps), losses=as_json(losses))


def thinned(records: Sequence[Record]) -> tuple[list[int], list[float]]:
    """Return steps and losses: those of the records, or the means over equal numbers of neighbouring records."""
    found = sorted((record["step"], float(record["loss"])) for record in records if is_number(record.get("loss")))
    steps, losses = [], []
    num_points = min(POINTS, len(found))
    for place in range(num_points):
        part = found[place * len(found) // num_points : (place + 1) * len(found) // num_points]
        steps.append(round(sum(step for step, _ in part) / len(part)))
        losses.append(float(f"{sum(loss for _, loss in part) / len(part):.{_DIGITS}g}"))
    return steps, losses


def parent_of(provenance: Any) -> str | None:
    """Return the run directory that ``hpctrain rerun`` has made a run from; None if there is none."""
    parent = provenance.get("parent") if isinstance(provenance, dict) else None
    path = parent.get("run") if isinstance(parent, dict) else None
    return path if isinstance(path, str) else None


def advice_for(run: RunDir, history: History, profile: Mapping[str, Any]) -> str | None:
    """Return the names of the rules that have found something, the most pressing first; None if there are none."""
    from hpctrain.advice.advise import advise  # numpy, which a look at an unchanged index does not need
    from hpctrain.advice.gather import summarise

    try:
        return ", ".join(said.rule for said in advise(summarise(run, history, profile=profile))) or None
    except Exception:  # a rule that stumbles over damaged records must not cost the row
        return None
