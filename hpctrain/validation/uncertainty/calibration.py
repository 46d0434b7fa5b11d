"""The block ``calibration`` of ``validation.json``: reliability, coverage and abstention of each label. R rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.validation.intervals import CONFIDENCE, DRAWS
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.tasks.values import CIRCULAR, REDSHIFT, VALUE
from hpctrain.validation.uncertainty.abstention import SHARES, Abstention
from hpctrain.validation.uncertainty.coverage import central_level, coverage_curve, coverage_error, error_by_chance
from hpctrain.validation.uncertainty.figures import uncertainty_figures
from hpctrain.validation.uncertainty.recalibrate import compare_classes, compare_densities, enough, raw_classes
from hpctrain.validation.uncertainty.reliability import Reliability, reliability

FEWEST = 50
"""Smallest number of rows of which a block says something."""
MOST_CLASSES = 20
"""Largest number of classes with a reliability of their own: the most common ones."""
NUMBERS = (REDSHIFT, VALUE, CIRCULAR)


def add_calibration(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``calibration`` and its figures.

    Parameters
    ----------
    judged : Judged
    section : optional
        Section ``validate`` of the profile.
    """
    confidence, draws = getattr(section, "confidence", CONFIDENCE), getattr(section, "draws", DRAWS)
    tasks: dict[str, Any] = {}
    figures: list[Any] = []
    for task in judged.tasks:
        found = task_calibration(task, judged, confidence, draws)
        if found:
            found.update(_on_other_objects(task, judged))
            tasks[task.title] = found
            figures += uncertainty_figures(task.title, found, confidence)
    return {"calibration": {"seen_before": seen_before(judged.card), "tasks": tasks}, "figures": figures}


def seen_before(card: Mapping[str, Any]) -> bool:
    """Return whether the uncertainties of the model were fitted to the very objects that judge it.

    They are fitted to the objects of ``data.split.validation``, which are also those of the results, unless
    ``data.split.results`` says that the results are those of the final test.
    """
    return (card.get("split") or {}).get("results", "validation") != "test"


def task_calibration(task: Task, judged: Judged, confidence: float, draws: int) -> dict[str, Any]:
    """Return what is known of the uncertainty of one task; empty if that is nothing."""
    if task.kind == CLASS and "probability" in task.arrays:
        return class_calibration(task, _classes(judged.card, task.title), judged.target_id, confidence, draws)
    if task.kind in NUMBERS:
        return number_calibration(task, judged.columns, judged.target_id, confidence)
    return {}


def _on_other_objects(task: Task, judged: Judged) -> dict[str, Any]:
    """Return ``learned``, what the card says of the calibration, and ``on_other_objects``, what each kind is worth."""
    entry = (judged.card.get("calibration") or {}).get(task.title)
    found: dict[str, Any] = {} if entry is None else {"learned": {k: entry[k] for k in ("method", "factor")}}
    columns, rows = judged.columns, task.known
    if task.kind == CLASS:
        p, is_raw = raw_classes(entry, task.arrays["probability"], columns.get(f"{task.title}_PROB_RAW"))
        rows = rows & np.isfinite(p).all(axis=1)
        if enough(judged.target_id[rows]):
            compared = compare_classes(p[rows], is_raw, task.arrays["true"][rows], judged.target_id[rows])
            found["on_other_objects"] = compared
    elif (pit := columns.get(f"{task.title}_PIT_RAW", columns.get(f"{task.title}_PIT"))) is not None:
        rows = rows & np.isfinite(pit)
        if enough(judged.target_id[rows]):
            found["on_other_objects"] = compare_densities(pit[rows], judged.target_id[rows])
    return found


def class_calibration(
    task: Task, classes: list[str], target_id: np.ndarray, confidence: float, draws: int
) -> dict[str, Any]:
    """Return reliability of the most probable class and of each class, and abstention."""
    probability, true = task.arrays["probability"], task.arrays["true"]
    rows = task.known & np.isfinite(probability).all(axis=1)
    if np.count_nonzero(rows) < FEWEST:
        return {}
    probability, true, target_id = probability[rows], true[rows], target_id[rows]
    best = probability.argmax(axis=1)
    top = reliability(probability.max(axis=1), best == true, target_id)
    counts = np.bincount(true, minlength=len(classes))
    chosen = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    single = {
        classes[at]: reliability_json(reliability(probability[:, at], true == at, target_id), confidence, draws)
        for at in chosen
        if counts[at]
    }
    return {
        "kind": CLASS,
        "top_label": reliability_json(top, confidence, draws),
        "classes": single,
        "classwise_ece": float(np.mean([each["ece"]["debiased"] for each in single.values()])),
        "abstention": abstention_json(
            Abstention(probability.max(axis=1), (best != true).astype(float), target_id), "share wrong", confidence
        ),
    }


def number_calibration(
    task: Task, columns: Mapping[str, np.ndarray], target_id: np.ndarray, confidence: float
) -> dict[str, Any]:
    """Return coverage of credible intervals, and abstention by the predicted error."""
    found: dict[str, Any] = {}
    pit = columns.get(f"{task.title}_PIT", np.full(len(target_id), np.nan))
    rows = task.known & np.isfinite(pit)
    if np.count_nonzero(rows) >= FEWEST:
        level = central_level(pit[rows])
        found["central"] = {
            **coverage_curve(level, target_id[rows], confidence),
            "error": coverage_error(level),
            "error_by_chance": error_by_chance(len(level)),
        }
        denser = columns.get(f"{task.title}_HPD")
        if denser is not None:
            level = denser[rows]
            found["highest_density"] = {
                **coverage_curve(level, target_id[rows], confidence),
                "error": coverage_error(level),
            }
    error = columns.get(f"{task.title}_ERR", np.full(len(target_id), np.nan))
    if task.kind == REDSHIFT:
        error = error / (1 + task.arrays["predicted"])
    rows = task.known & np.isfinite(error)
    if np.count_nonzero(rows) >= FEWEST:
        what = "mean |dz| / (1 + z)" if task.kind == REDSHIFT else "mean absolute residual"
        judged = Abstention(-error[rows], np.abs(task.arrays["residual"][rows]), target_id[rows])
        found["abstention"] = abstention_json(judged, what, confidence)
    return {"kind": task.kind, **found} if found else {}


def reliability_json(found: Reliability, confidence: float, draws: int) -> dict[str, Any]:
    """Return a reliability as plain values."""
    low, high = found.error_interval(confidence, draws)
    bands = found.bands(confidence)
    return {
        "num": len(found.probability),
        "bins": {
            "predicted": found.predicted,
            "observed": found.observed,
            "low": bands[:, 0],
            "high": bands[:, 1],
            "num": found.num.astype(int),
        },
        "ece": {
            "value": found.error,
            "debiased": found.debiased_error,
            "low": low,
            "high": high,
            "by_chance": found.error_by_chance,
        },
        "brier": found.brier_parts(),
    }


def abstention_json(found: Abstention, loss: str, confidence: float) -> dict[str, Any]:
    """Return an abstention curve as plain values, at most 100 places of it."""
    coverage, risk = (line[0] for line in found.curve())
    places = np.unique(np.searchsorted(coverage, np.linspace(0.01, 1, 100) * (1 - 1e-12)))
    places = np.minimum(places, len(coverage) - 1)
    low, high = found.area_interval(confidence)
    return {
        "loss": loss,
        "coverage": coverage[places],
        "risk": risk[places],
        "aurc": {"value": float(found.area()[0]), "low": low, "high": high, "excess": found.excess()},
        "risk_at": {f"{share:g}": found.risk_at(share) for share in SHARES},
    }


def _classes(card: Mapping[str, Any], title: str) -> list[str]:
    for label in card["section"].get("labels") or ():
        if (label.get("name") or str(label["column"]).rsplit("/", 1)[-1]) == title:
            return list(label.get("classes") or ())
    return []
