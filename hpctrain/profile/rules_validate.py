"""Rules of ``validate``: values that are valid alone but do not fit together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hpctrain.profile.judge import Judge
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.sections.validate import BinsSection, GateSection

_NUMBERS = ("bias", "scatter", "rmse", "mae", "outliers", "crps", "log_loss", "cde_loss", "pit_ks")
_VALUES = (
    *_NUMBERS, "mean_bias", "nmad", "r2", "outliers_0.15", "outliers_0.05", "outliers_1000km_s", "outliers_3000km_s",
)  # fmt: skip
METRICS = {
    "class": (
        "accuracy", "macro_f1", "balanced_accuracy", "log_loss", "brier", "roc_auc", "average_precision",
        "recall_0fp", "recall_10fp",
    ),
    "value": _VALUES,
    "density": _VALUES,
    "circular": _NUMBERS,
}  # fmt: skip
"""Kind of a label to the metrics that it can have; which of them it has may depend on the data."""
RECONSTRUCTION = ("reduced_chi2", "mean_reduced_chi2", "tail_0.01", "tail_0.001", "chi2_ks")
"""Metrics of the task ``reconstruction``, which no label names."""
PARTS = ("completeness", "purity", "f1", "roc_auc", "average_precision")
"""Metrics that each class has, such as ``purity.STAR``."""


def check_validate(judge: Judge) -> None:
    """Judge ``validate``."""
    section = judge.profile.validate
    for position, bins in enumerate(section.bins):
        _check_bins(judge, bins, f"validate.bins.{position}")
    _check_columns_once(judge, section.bins)
    for position, gate in enumerate(section.gates):
        _check_gate(judge, gate, f"validate.gates.{position}")
    _check_uncertainty(judge)
    anomalies = section.anomalies
    if anomalies.column is not None and not anomalies.positive:
        message = f"names the column {anomalies.column}, but no value of it: say with positive which values are unusual"
        judge.problem(message, "validate.anomalies", "validate.anomalies.positive")
    if section.gates and not section.at_end:
        message = "are judged only by the command hpctrain validate; validate.at_end: true judges them after training"
        judge.warn(message, "validate.gates", "validate.at_end")


def _check_uncertainty(judge: Judge) -> None:
    section, where = judge.profile.validate, "validate.uncertainty.conformal_bins"
    column, known = section.uncertainty.conformal_bins, [entry.column for entry in section.bins]
    if column is None:
        return
    if column not in known:
        near = did_you_mean(column, known) or "; there are none"
        judge.problem(f"{column} has no bins in validate.bins{near}; add it there", where, "validate.bins")
    if section.uncertainty.conformal is None:
        message = "has no effect without validate.uncertainty.conformal, the share of truths that may be outside"
        judge.warn(message, where, "validate.uncertainty.conformal")


def _check_bins(judge: Judge, bins: BinsSection, where: str) -> None:
    if bins.edges is not None and bins.quantiles is not None:
        judge.problem("has edges and quantiles; write one of them", where)
    if bins.edges is not None and not all(low < high for low, high in pairwise(bins.edges)):
        judge.problem(f"{bins.edges} does not rise; write the inner edges of the bins in order", f"{where}.edges")


def _check_columns_once(judge: Judge, bins: list[BinsSection]) -> None:
    columns = [entry.column for entry in bins]
    for position, column in enumerate(columns):
        if column in columns[:position]:
            judge.problem(f"{column} has bins already; write each column once", f"validate.bins.{position}.column")


def _check_gate(judge: Judge, gate: GateSection, where: str) -> None:
    if gate.below is None and gate.above is None:
        judge.problem("has no limit; write below, above, or both", where)
    elif gate.below is not None and gate.above is not None and gate.above >= gate.below:
        message = f"no value is above {gate.above:g} and below {gate.below:g}; exchange them"
        judge.problem(message, f"{where}.above", f"{where}.below")
    if gate.where is not None and gate.every_bin is not None:
        judge.problem("has where and every_bin; write two gates", where)
    if gate.where is not None:
        low, high = gate.where.low, gate.where.high
        if low is None and high is None:
            judge.problem("is no range; write low, high, or both", f"{where}.where")
        elif low is not None and high is not None and low >= high:
            judge.problem(f"no value is from {low:g} to below {high:g}", f"{where}.where")
    known = [entry.column for entry in judge.profile.validate.bins]
    if gate.every_bin is not None and gate.every_bin not in known:
        near = did_you_mean(gate.every_bin, known) or "; there are none"
        message = f"{gate.every_bin} has no bins in validate.bins{near}; add it there"
        judge.problem(message, f"{where}.every_bin", "validate.bins")
    _check_task(judge, gate, where)


def _check_task(judge: Judge, gate: GateSection, where: str) -> None:
    """Judge task and metric, where the labels of the profile say which there are."""
    labels = getattr(judge.profile.model, "labels", None) or []
    kinds = {label.title: label for label in labels if hasattr(label, "title")}
    task, metric = gate.metric.split(".", 1)
    if not kinds and (task != "reconstruction" or metric in RECONSTRUCTION):
        return
    if not kinds:
        problem = f"{task} has no metric {metric}{did_you_mean(metric, RECONSTRUCTION)}"
    elif task not in kinds:
        problem = f"there is no label {task} in model.labels{did_you_mean(task, kinds)}"
    else:
        problem = _unknown_metric(metric, kinds[task])
    if problem:
        judge.problem(problem, f"{where}.metric", "model.labels")


def _unknown_metric(metric: str, label: Any) -> str:
    """Return what is wrong with the metric of a label; empty if nothing is, or nothing is known of its kind."""
    known = METRICS.get(getattr(label, "kind", ""), ())
    of, _, part = metric.partition(".")
    if not known or metric in known:
        return ""
    if label.kind == "class" and part and of in PARTS:
        classes = label.classes
        unknown = classes is not None and part not in classes
        return f"{label.title} has no class {part}{did_you_mean(part, classes)}" if unknown else ""
    listed = [*known, *(f"{name}.CLASS" for name in PARTS)] if label.kind == "class" else known
    return f"{label.title} has no metric {metric}{did_you_mean(metric, listed)}"
