"""The block ``target`` of ``validation.json``: metrics for another population, and where the training ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.drawing.scale import significant
from hpctrain.errors import DataError
from hpctrain.families.labels.conformal import threshold
from hpctrain.profile.sections.validate import TargetSection
from hpctrain.validation.bias.density_ratio import density_ratio, effective_size
from hpctrain.validation.intervals import Score, intervals, wilson
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.sums import share
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.uncertainty.outliers import Detector

FEWEST = 100
"""Smallest number of objects on each side."""
BEYOND = 0.01
"""Share of held-out objects that are farther from the training objects than the limit."""
FEWEST_EFFECTIVE = 50.0
_PARTS = 5


def add_target(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``target`` and its figures; nothing unless the profile names a target population.

    Parameters
    ----------
    judged : Judged
    section : ValidateSection, optional

    Raises
    ------
    DataError
        The files of the target population cannot be read, or lack columns, or there are too few objects.
    """
    target = getattr(section, "target", None)
    if target is None:
        return {}
    names = list(target.columns)
    own = np.stack([_numbers(judged.column(name), name) for name in names], axis=1)
    other, training = _target_and_training(judged, target)
    known = np.isfinite(own).all(axis=1)
    for what, number in (("held-out", int(known.sum())), ("target", len(other)), ("training", len(training))):
        if number < FEWEST:
            raise DataError(
                f"validate.target: {number} {what} objects have all of the columns; at least {FEWEST} needed"
            )
    weights = np.zeros(len(own))
    weights[known] = density_ratio(own[known], other, target.method)
    if not weights.any():
        raise DataError("validate.target: no target object is near any held-out object in these columns")
    tasks, figures = {}, []
    for task in judged.tasks:
        scores = intervals(
            task, [metric.name for metric in task.metrics], judged.target_id, None, section.draws, section.confidence,
            weights=weights,
        )  # fmt: skip
        tasks[task.title] = {name: _score_json(score) for name, score in scores.items()}
        figures.append(_figure(task, scores))
    size = effective_size(weights)
    block = {
        "method": target.method,
        "columns": names,
        "num_target": len(other),
        "effective_size": size,
        "enough": size >= FEWEST_EFFECTIVE,
        "largest_weight": float(weights.max()),
        "reach": reach_of(training, own[known], other, names, section.confidence),
        "tasks": tasks,
    }
    return {"target": block, "figures": figures}


def reach_of(
    training: np.ndarray, held_out: np.ndarray, target: np.ndarray, names: list[str], confidence: float
) -> dict[str, Any]:
    """Return the share of target objects that are farther from the training objects than 99 % of the held-out ones.

    Parameters
    ----------
    training, held_out, target : ndarray, shape (n, F), (m, F), (T, F)
    names : list of str
        Of the columns.
    confidence : float
        Of the interval of the share.

    References
    ----------
    .. [1] Masters et al. 2015, ApJ 813, 53, arXiv:1509.03318: where spectra do not reach in the space of colours.
    """
    detector = Detector(training)
    limit = threshold(detector.scores(held_out), BEYOND)
    outside = detector.scores(target) > limit
    ones = np.ones(len(target))
    low, high = wilson(share(outside, ones > 0), ones, np.arange(len(target)), confidence)
    where = {}
    for name, values in zip(names, target.T, strict=True):
        edges = np.unique(np.quantile(values, np.arange(1, _PARTS) / _PARTS))
        place = np.searchsorted(edges, values, side="right")
        shares = [float(outside[place == at].mean()) if (place == at).any() else None for at in range(len(edges) + 1)]
        where[name] = {"edges": edges, "share": shares}
    return {"limit": limit, "share": float(outside.mean()), "low": low, "high": high, "where": where}


def _target_and_training(judged: Judged, target: TargetSection) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the target population (T, F), and of the training objects (n, F); rows with all of them."""
    from hpctrain.profile.load import load_profile
    from hpctrain.profile.lookup import find_family, find_kind
    from hpctrain.samples.split import TRAIN, assign_split

    profile = load_profile(judged.run.profile)
    kind = find_kind(find_family(profile.model.family).kind)
    found = []
    for files, is_training in ((list(target.files), False), (profile.data.files, True)):
        samples = kind.open(profile.data.model_copy(update={"files": files}))
        rows = slice(None)
        if is_training:
            rows = assign_split(samples.target_id, profile.data.split, samples.column) == TRAIN
        table = np.stack([_numbers(samples.column(name), name)[rows] for name in target.columns], axis=1)
        found.append(table[np.isfinite(table).all(axis=1)])
    return found[0], found[1]


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "iufb":
        raise DataError(f"validate.target: the column {name} holds no numbers")
    return values.astype(np.float64)


def _score_json(score: Score) -> dict[str, Any]:
    return {"value": score.value, "low": score.low, "high": score.high, "n": score.num_objects, "note": score.note}


def _figure(task: Task, scores: Mapping[str, Score]) -> dict[str, Any]:
    def text(value: float) -> str:
        return significant(value) if np.isfinite(value) else "–"

    rows = []
    for metric in task.metrics:
        score = scores[metric.name]
        ends = f"{text(score.low)} to {text(score.high)}"
        rows.append([metric.label, text(task.score(metric.name)), text(score.value), ends])
    heads = ["metric", "held-out", "target", "interval"]
    caption = "Held-out objects weighted to the distribution of the target population."
    return figure(f"{task.title}.target", "As the target population", "table", {"heads": heads, "rows": rows}, caption)
