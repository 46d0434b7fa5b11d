"""Gates: limits that metrics must keep, and how far they do. R rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.drawing.scale import grouped, significant
from hpctrain.errors import DataError
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.sections.validate import GateSection, ValidateSection
from hpctrain.validation.bins import bins_of, in_range, range_text
from hpctrain.validation.intervals import Score, intervals
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.task import Task

EVERYWHERE = "all held-out objects"


@dataclass(frozen=True)
class Place:
    """Objects that a gate judges.

    Parameters
    ----------
    name : str
        What people call them.
    rows : ndarray, shape (R,), bool, or None
        None for all.
    """

    name: str
    rows: np.ndarray | None = None


def judge_gates(judged: Judged, section: ValidateSection, tasks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each gate with what was found, and whether the model keeps it.

    Parameters
    ----------
    judged : Judged
    section : ValidateSection
    tasks : mapping
        Block ``tasks`` of ``validation.json``: the metrics of all objects together.

    Returns
    -------
    list of dict
        Per gate the keys of the profile, ``asked`` and ``said`` in words, ``passed``, and ``checks``. A check has
        ``place``, ``value``, ``low``, ``high``, ``num_objects``, ``judged``, ``passed``, ``compared`` (the number that
        was compared with the limits) and ``by``: its distance from the nearest limit, negative beyond it.
    """
    return [_judge(judged, gate, section, tasks) for gate in section.gates]


def failed_gates(gates: list[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each gate that is not kept."""
    return [f"{gate['asked']}: {gate['said']}" for gate in gates if not gate["passed"]]


def _said(checks: list[dict[str, Any]]) -> str:
    """Return what was found where the metric is nearest to its limit, or farthest beyond it."""
    checks = [check for check in checks if check["judged"]]
    worst = min(checks, key=lambda check: -math.inf if check["by"] is None else check["by"])
    place = f" ({worst['place']})" if len(checks) > 1 else ""
    if worst["by"] is None:
        return f"not defined{place}"
    failed = sum(not check["passed"] for check in checks)
    more = f", and in {failed - 1} more of {len(checks)} bins" if failed > 1 else ""
    side = "inside" if worst["by"] > 0 else "beyond"
    return f"{significant(worst['compared'])}, {significant(abs(worst['by']))} {side} the limit{place}{more}"


def _compared(gate: Mapping[str, Any], check: Mapping[str, Any]) -> float | None:
    """Return the number to compare with the limit: the value, or the end of the interval that is nearer to failing."""
    if gate["use"] == "value":
        return check["value"]
    ends = [(_by(gate, check[end]), check[end]) for end in ("low", "high") if check[end] is not None]
    return min(ends)[1] if len(ends) == 2 else None


def _judge(judged: Judged, gate: GateSection, section: ValidateSection, tasks: Mapping[str, Any]) -> dict[str, Any]:
    asked = {**gate.model_dump(mode="json"), "asked": asked_of(gate)}
    try:
        task = judged.task(gate.metric.split(".", 1)[0])
        checks = _checks(judged, task, gate, section, tasks)
    except DataError as error:
        return {**asked, "passed": False, "said": str(error), "checks": []}
    if not any(check["judged"] for check in checks):
        most = max((check["num_objects"] for check in checks), default=0)
        where = "no bin has" if gate.every_bin is not None else "there are not"
        said = f"nothing to judge: {where} {gate.min_objects} objects (most: {most})"
        return {**asked, "passed": False, "said": said, "checks": checks}
    passed = all(check["passed"] for check in checks if check["judged"])
    return {**asked, "passed": passed, "said": _said(checks), "checks": checks}


def _checks(
    judged: Judged, task: Task, gate: GateSection, section: ValidateSection, tasks: Mapping[str, Any]
) -> list[dict[str, Any]]:
    metric = gate.metric.split(".", 1)[1]
    if metric not in task.statistics:
        raise DataError(f"{task.title} has no metric {metric}{did_you_mean(metric, task.statistics)}")
    if gate.below is None and gate.above is None:
        raise DataError("has no limit; write below, above, or both")
    places = places_of(judged, gate, section)
    return [_check(_score(judged, task, metric, place, section, tasks), place, gate) for place in places]


def places_of(judged: Judged, gate: GateSection, section: ValidateSection) -> list[Place]:
    """Return the objects that a gate judges.

    Raises
    ------
    DataError
        A column does not exist, or has no numbers.
    """
    if gate.every_bin is not None:
        bins = next((entry for entry in section.bins if entry.column == gate.every_bin), None)
        if bins is None:
            raise DataError(f"{gate.every_bin} has no bins in validate.bins; add it there")
        return [Place(f"{gate.every_bin} {each.label}", each.rows) for each in bins_of(judged, bins)]
    if gate.where is None:
        return [Place(EVERYWHERE)]
    values = judged.column(gate.where.column)
    if values.dtype.kind not in "iufb":
        raise DataError(f"the column {gate.where.column} holds no numbers, so it has no range")
    rows = in_range(values.astype(np.float64), gate.where.low, gate.where.high)
    return [Place(f"{gate.where.column} {range_text(gate.where.low, gate.where.high)}", rows)]


def _score(
    judged: Judged, task: Task, metric: str, place: Place, section: ValidateSection, tasks: Mapping[str, Any]
) -> Score:
    """Return a metric of some objects: for all of them the one in ``validation.json``."""
    if place.rows is None:
        known = tasks[task.title]["metrics"][metric]
        value, low, high = (math.nan if known[key] is None else known[key] for key in ("value", "low", "high"))
        return Score(value, low, high, known["num_rows"], known["n"])
    return intervals(task, [metric], judged.target_id, place.rows, section.draws, section.confidence)[metric]


def _check(score: Score, place: Place, gate: GateSection) -> dict[str, Any]:
    limits = {"below": gate.below, "above": gate.above, "use": gate.use}
    found = {"place": place.name, "value": score.value, "low": score.low, "high": score.high}
    found = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in found.items()}
    enough = score.num_objects >= gate.min_objects
    number = _compared(limits, found)
    by = None if number is None else _by(limits, number)
    passed = by is not None and by > 0  # a metric that is not defined keeps no limit
    numbers = {"num_objects": score.num_objects, "compared": number, "by": by}
    return {**found, **numbers, "judged": enough, "passed": enough and passed}


def _by(gate: Mapping[str, Any], number: float) -> float:
    """Return the distance of a number from the nearest limit; negative beyond it, 0 on it."""
    below, above = gate["below"], gate["above"]
    return min(math.inf if below is None else below - number, math.inf if above is None else number - above)


def asked_of(gate: GateSection) -> str:
    """Return what a gate asks for, in words."""
    which = {"value": "", "bound": " (with its interval)"}[gate.use]
    limits = [f"above {significant(gate.above)}"] if gate.above is not None else []
    limits += [f"below {significant(gate.below)}"] if gate.below is not None else []
    where = ""
    if gate.every_bin is not None:
        where = f" in every bin of {gate.every_bin} with {grouped(gate.min_objects)} objects or more"
    elif gate.where is not None:
        where = f" for {gate.where.column} {range_text(gate.where.low, gate.where.high)}"
    return f"{gate.metric}{which} {' and '.join(limits)}{where}"
