"""``results/validation.json``: all metrics of a run with their intervals, and what other judges add."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.families.labels.conformal import FILE as CONFORMAL
from hpctrain.rundir import write_json
from hpctrain.validation.bias.block import add_bins
from hpctrain.validation.bias.sky_block import add_sky
from hpctrain.validation.bias.target_block import add_target
from hpctrain.validation.figures.tasks import task_figures
from hpctrain.validation.gates import judge_gates
from hpctrain.validation.intervals import Score, intervals
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.uncertainty.calibration import add_calibration
from hpctrain.validation.uncertainty.conformal import add_conformal
from hpctrain.validation.uncertainty.outliers import add_outliers

FORMAT = "hpctrain-validation"
VERSION = 1

Block = Callable[[Judged, Any], Mapping[str, Any]]

BLOCKS: tuple[Block, ...] = (add_bins, add_sky, add_target, add_calibration, add_conformal, add_outliers)
"""What is added after the metrics: functions of (judged, section ``validate`` of the profile or None) that return
blocks of the file by name, such as ``{"bins": ...}``; empty where there is nothing to say. What they return as
``"figures"`` (a list of :func:`hpctrain.drawing.described.figure.figure`) is added to the other figures."""


def validate(judged: Judged, section: Any = None) -> dict[str, Any]:
    """Return the contents of ``validation.json``: plain values, all numbers finite or None.

    Parameters
    ----------
    judged : Judged
    section : optional
        Section ``validate`` of a profile; that of the run by default.
    """
    section = judged.section if section is None else section
    draws, confidence = section.draws, section.confidence
    found = {
        "format": FORMAT,
        "version": VERSION,
        "hpctrain_version": __version__,
        "made_at": time.time(),
        "run": f"{judged.run.name}/{judged.run.run_id}",
        "family": judged.card["family"],
        "model_sha256": judged.sha256,
        "split": judged.card.get("split"),
        "num_rows": len(judged),
        "num_objects": len(np.unique(judged.target_id)),
        "confidence": confidence,
        "draws": draws,
        "tasks": {task.title: task_json(task, judged.target_id, draws, confidence) for task in judged.tasks},
    }
    figures = task_figures(judged, found)
    for add in BLOCKS:
        block = dict(add(judged, section))
        figures += block.pop("figures", [])
        found.update(block)
    found["gates"] = judge_gates(judged, section, found["tasks"])
    return finite({**found, "figures": figures})


def task_json(task: Task, target_id: np.ndarray, draws: int, confidence: float) -> dict[str, Any]:
    """Return a task with all its metrics and their intervals."""
    scores = intervals(task, [metric.name for metric in task.metrics], target_id, None, draws, confidence)
    metrics = {metric.name: {**describe(metric), **score_json(scores[metric.name])} for metric in task.metrics}
    return {"kind": task.kind, "metrics": metrics, **task.details()}


def describe(metric: Any) -> dict[str, Any]:
    """Return what a metric is, as plain values."""
    keys = ("label", "unit", "better", "description")
    return {**{key: getattr(metric, key) for key in keys}, "references": list(metric.references)}


def score_json(score: Score) -> dict[str, Any]:
    """Return a score as plain values: ``value``, ``low``, ``high``, ``n``, ``num_rows``, ``method`` and ``note``."""
    found = {"value": score.value, "low": score.low, "high": score.high, "n": score.num_objects}
    return {**found, "num_rows": score.num_rows, "method": score.method, **({"note": score.note} if score.note else {})}


def finite(value: Any) -> Any:
    """Return plain JSON values: numpy's become Python's, and numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def write_validation(judged: Judged, found: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write ``results/validation.json``, or another file, whole or not at all; return its path.

    Thresholds of conformal sets that shall be stored go to ``model/conformal.json``, too.
    """
    path = judged.run.validation if path is None else path
    write_json(path, found)
    if stored := found.get("conformal", {}).get("stored"):
        write_json(judged.run.model / CONFORMAL, {**stored, "model_sha256": found["model_sha256"]})
    return path
