"""Compare finished runs on the objects that all of them held out."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.validation.comparison.agreement import Agreement, Shared, agree, refuse_other_labels
from hpctrain.validation.comparison.background import code_rows, data_rows, profile_differences
from hpctrain.validation.comparison.difference import DRAWS, Difference, compare_tasks
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.comparison.groups import OBJECT, group_rows
from hpctrain.validation.comparison.matching import Matched, match
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.comparison.repeated import corrected_resampled_t
from hpctrain.validation.comparison.verdict import verdict
from hpctrain.validation.intervals import CONFIDENCE, intervals
from hpctrain.validation.tasks.task import HIGHER, ZERO, Metric, Task
from hpctrain.validation.validate import describe, finite, score_json

FORMAT = "hpctrain-comparison"
VERSION = 1
_WITHOUT_ZERO = ("log_loss", "cde_loss", "r2")
"""Metrics that are on no scale with a natural 0, so that a relative change says nothing."""


@dataclass(frozen=True)
class Asked:
    """How to compare.

    Parameters
    ----------
    baseline : int or None
        Place of the run that all others are compared with; None for all pairs.
    metrics : tuple of str
        Metrics as the user names them; the usual ones if empty.
    by : str
        What is independent: ``object``, ``sky`` or a column of the data files.
    ra, dec : str
    nside : int
        For ``sky``.
    shared : bool
        Compare runs with different splits on the objects that all of them held out.
    confidence : float
    draws : int
    """

    baseline: int | None = 0
    metrics: tuple[str, ...] = ()
    by: str = OBJECT
    ra: str = "ra"
    dec: str = "dec"
    nside: int = 8
    shared: bool = False
    confidence: float = CONFIDENCE
    draws: int = DRAWS


def compare(entrants: Sequence[Entrant], asked: Asked = Asked()) -> dict[str, Any]:
    """Return the comparison as plain values: all numbers finite or None.

    Parameters
    ----------
    entrants : sequence of Entrant
        At least two.
    asked : Asked

    Raises
    ------
    DataError
        The runs held out different objects, or predict nothing in common.
    ProfileError
        There is no metric of a wanted name.
    SiteError
        A package is missing.
    """
    refuse_other_labels(entrants)
    matched = match(entrants, asked.shared)
    agreement = agree(matched.entrants, asked.metrics)
    group = group_rows(matched.entrants[0].judged, asked.by, asked.ra, asked.dec, asked.nside)
    pairs = [_pair(matched.entrants, agreement, places, group, asked) for places in _places(len(entrants), asked)]
    _adjust(pairs)
    for pair in pairs:
        pair["verdict"] = verdict(pair, 1 - asked.confidence)
    tasks = {shared.title: _task_json(shared, matched.entrants, group, asked) for shared in agreement.shared}
    return finite(_head(matched, agreement, group, asked) | {"tasks": tasks, "pairs": pairs})


def _head(matched: Matched, agreement: Agreement, group: np.ndarray, asked: Asked) -> dict[str, Any]:
    entrants = matched.entrants
    runs = [each.judged.run for each in entrants]
    return {
        "format": FORMAT,
        "version": VERSION,
        "hpctrain_version": __version__,
        "made_at": time.time(),
        "runs": [
            {
                "name": each.name,
                "path": each.path,
                "family": each.judged.card["family"],
                "step": each.judged.card.get("step"),
                "folds": None if each.folds is None else len(np.unique(each.folds)),
            }
            for each in entrants
        ],
        "baseline": None if asked.baseline is None else entrants[asked.baseline].name,
        "by": asked.by,
        "num_objects": matched.num_objects,
        "num_rows": len(entrants[0].judged),
        "num_groups": len(np.unique(group)),
        "confidence": asked.confidence,
        "draws": asked.draws,
        "notes": [*matched.notes, *agreement.notes],
        "profile": profile_differences(runs),
        "data": data_rows(runs),
        "code": code_rows(runs),
    }


def _places(number: int, asked: Asked) -> list[tuple[int, int]]:
    """Return the pairs of runs to compare, by their places."""
    if asked.baseline is None:
        return list(itertools.combinations(range(number), 2))
    return [(asked.baseline, other) for other in range(number) if other != asked.baseline]


def _pair(
    entrants: Sequence[Entrant], agreement: Agreement, places: tuple[int, int], group: np.ndarray, asked: Asked
) -> dict[str, Any]:
    first, second = (entrants[place] for place in places)
    tasks = {}
    for shared in agreement.shared:
        pair = shared.tasks[places[0]], shared.tasks[places[1]]
        names = [metric.name for metric in shared.metrics]
        found = compare_tasks(*pair, names, group, asked.draws, asked.confidence)
        metrics = {
            metric.name: {
                **_plain(metric),
                **asdict(found[metric.name]),
                "relative": _relative(metric, found[metric.name]),
                **_folds(first, second, pair, metric, asked),
            }
            for metric in shared.metrics
        }
        tasks[shared.title] = {"deciding": names[0], "metrics": metrics}
    return {"first": first.name, "second": second.name, "tasks": tasks}


def _plain(metric: Metric) -> dict[str, Any]:
    return {"label": metric.label, "unit": metric.unit, "better": metric.better}


def _relative(metric: Metric, found: Difference) -> float:
    """Return a difference as a share of the first value; NaN for what has no natural 0, such as a log loss."""
    has_zero = metric.better != ZERO and metric.name not in _WITHOUT_ZERO
    return found.value / found.first if has_zero and found.first > 0 else math.nan


def _folds(first: Entrant, second: Entrant, pair: tuple[Task, Task], metric: Metric, asked: Asked) -> dict[str, Any]:
    """Return the corrected resampled t test of two cross-validations with the same folds; else nothing."""
    if first.folds is None or second.folds is None or not np.array_equal(first.folds, second.folds):
        return {}
    runs = np.unique(first.folds)
    scores = [
        [
            task.score(metric.name, ((first.folds == run) & pair[0].known & pair[1].known).astype(np.float64))
            for run in runs
        ]
        for task in pair
    ]
    both = np.abs(scores) if metric.better == ZERO else np.array(scores)
    differences = (both[1] - both[0])[np.isfinite(both).all(axis=0)]
    if len(differences) < 2:
        return {}
    share = float(np.mean([np.count_nonzero(first.folds == run) for run in runs])) / _per_repeat(first)
    return {"over_folds": asdict(corrected_resampled_t(differences, share, asked.confidence))}


def _per_repeat(entrant: Entrant) -> float:
    """Return the number of rows that all folds of one repeat hold out."""
    repeat = entrant.judged.columns.get("REPEAT")
    return len(entrant.judged) / (1 if repeat is None else len(np.unique(repeat)))


def _adjust(pairs: Sequence[dict[str, Any]]) -> None:
    """Add p values adjusted for all that was tested: deciding metrics among themselves, the others among themselves."""
    for key in ("p", "signed_rank"):
        for deciding in (True, False):
            tests = [
                values
                for pair in pairs
                for task in pair["tasks"].values()
                for name, values in task["metrics"].items()
                if (name == task["deciding"]) == deciding
            ]
            for values, adjusted in zip(tests, holm(np.array([each[key] for each in tests])), strict=True):
                values[f"{key}_holm"] = float(adjusted)


def _task_json(shared: Shared, entrants: Sequence[Entrant], group: np.ndarray, asked: Asked) -> dict[str, Any]:
    """Return a label with the metrics of each run, and the order of the runs by the deciding one."""
    names = [metric.name for metric in shared.metrics]
    known = np.logical_and.reduce([task.known for task in shared.tasks])
    scores = [intervals(task, names, group, known, asked.draws, asked.confidence) for task in shared.tasks]
    metrics = {
        metric.name: {
            **describe(metric),
            "runs": {each.name: score_json(own[metric.name]) for each, own in zip(entrants, scores, strict=True)},
        }
        for metric in shared.metrics
    }
    order = sorted(range(len(entrants)), key=lambda place: _rank(shared.metrics[0], scores[place][names[0]].value))
    ranking = [entrants[place].name for place in order]
    return {"kind": shared.tasks[0].kind, "deciding": names[0], "ranking": ranking, "metrics": metrics}


def _rank(metric: Metric, value: float) -> float:
    if math.isnan(value):
        return math.inf
    return -value if metric.better == HIGHER else abs(value) if metric.better == ZERO else value
