"""The parts of a model card that were measured: metrics, gates, calibration, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.drawing.scale import grouped, significant
from hpctrain.report.validation_file import MetricScore, TaskScores, ValidationFile, is_part
from hpctrain.validation.model_card.markdown import escaped, interval, table
from hpctrain.validation.model_card.subgroups import flagged_lines

_BETTER = {"lower": "low", "higher": "high", "zero": "near 0"}
_LEVELS = (0.683, 0.95)
"""Probabilities of the central intervals that the card shows."""


def metric_lines(found: ValidationFile) -> list[str]:
    """Return the metrics of each task with their intervals."""
    share = f"{100 * found.confidence:g} %"
    lines = [
        f"On {grouped(found.num_objects)} held-out objects. Brackets: {share} intervals, for which all rows of an "
        "object count as one draw."
    ]
    for title, task in found.tasks.items():
        lines += ["", f"### {escaped(title)}", ""]
        whole = {name: metric for name, metric in task.metrics.items() if not is_part(name)}
        lines += table(["metric", "value", "objects", "good"], [_row(metric) for metric in whole.values()])
        lines += ["", *_part_lines(task)]
    return lines


def _row(metric: MetricScore) -> list[str]:
    unit = f" [{metric.unit}]" if metric.unit else ""
    return [escaped(f"{metric.label}{unit}"), _of(metric), grouped(metric.n), _BETTER[metric.better]]


def _of(metric: MetricScore) -> str:
    return interval(metric.value, metric.low, metric.high)


def parts_of(task: TaskScores) -> dict[str, dict[str, MetricScore]]:
    """Return the metrics of single parts, such as classes: part to name of the metric to the metric."""
    parts: dict[str, dict[str, MetricScore]] = {}
    for name, metric in task.metrics.items():
        if is_part(name):
            of, _, part = name.partition(".")
            parts.setdefault(part, {})[of] = metric
    return parts


def _part_lines(task: TaskScores) -> list[str]:
    parts = parts_of(task)
    columns = list(dict.fromkeys(name for metrics in parts.values() for name in metrics))
    rows = [
        [escaped(part), *(_of(metrics[name]) if name in metrics else "–" for name in columns), _num(metrics)]
        for part, metrics in parts.items()
    ]
    return table(["", *(name.replace("_", " ") for name in columns), "objects"], rows)


def _num(metrics: Mapping[str, MetricScore]) -> str:
    return grouped(next(iter(metrics.values())).n)


def gate_lines(found: ValidationFile) -> list[str]:
    """Return what was asked of the model, and what was found."""
    rows = [["kept" if gate.passed else "**failed**", escaped(gate.asked), escaped(gate.said)] for gate in found.gates]
    return table(["gate", "asked", "found"], rows) or ["The profile sets no gates."]


def calibration_lines(found: ValidationFile) -> list[str]:
    """Return how far predicted uncertainties are right."""
    rows = [row for title, task in _calibrated(found).items() for row in _calibration_rows(title, task)]
    lines = table(["", "predicted", "found"], rows)
    return lines or ["Nothing was measured: the model predicts no probabilities."]


def _calibrated(found: ValidationFile) -> Mapping[str, Any]:
    block = (found.model_extra or {}).get("calibration")
    tasks = block.get("tasks") if isinstance(block, Mapping) else None
    return tasks if isinstance(tasks, Mapping) else {}


def _calibration_rows(title: str, task: Mapping[str, Any]) -> Iterator[list[str]]:
    central, top = task.get("central"), task.get("top_label")
    if isinstance(central, Mapping):
        for level, share, low, high in zip(
            *(central[key] for key in ("level", "coverage", "low", "high")), strict=True
        ):
            if level in _LEVELS:
                yield [
                    f"{escaped(title)}: true values in central intervals",
                    significant(level),
                    interval(share, low, high),
                ]
    if isinstance(top, Mapping) and isinstance(top.get("ece"), Mapping):
        ece = top["ece"]
        told = f"{significant(ece['value'])} (by chance alone {significant(ece['by_chance'])})"
        yield [f"{escaped(title)}: expected calibration error of the predicted class", "0", told]


def limit_lines(found: ValidationFile, ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return what a user must know of the weak sides of the model, all of it measured.

    Parameters
    ----------
    found : ValidationFile
    ranges : mapping of str to (float, float)
        Lowest and highest true value of each task with numbers, among the held-out objects.
    """
    limits = [f"A gate failed: {escaped(gate.asked)}: {escaped(gate.said)}." for gate in found.gates if not gate.passed]
    for title, task in found.tasks.items():
        limits += [f"{escaped(title)}: {text}" for text in _weakest(task)]
        notes = {metric.note for metric in task.metrics.values() if metric.note}
        limits += [f"{escaped(title)}: {escaped(note)}." for note in sorted(notes)]
    limits += flagged_lines(found)
    limits += _miscalibrated(found)
    for title, (low, high) in ranges.items():
        limits.append(
            f"{escaped(title)}: the true values of the held-out objects are from {significant(low)} to "
            f"{significant(high)}; nothing was measured outside."
        )
    return [f"- {text}" for text in limits] or ["Nothing was found."]


def _weakest(task: TaskScores) -> Iterator[str]:
    """Yield the part with the lowest completeness, and the one with the lowest purity."""
    parts = parts_of(task)
    for name in ("completeness", "purity"):
        known = {part: metrics[name] for part, metrics in parts.items() if name in metrics}
        known = {part: metric for part, metric in known.items() if metric.value is not None}
        if len(known) > 1:
            part, metric = min(known.items(), key=lambda item: item[1].value or 0.0)
            yield f"the {name} is lowest for {escaped(part)}: {_of(metric)}."


def _miscalibrated(found: ValidationFile) -> Iterator[str]:
    block = (found.model_extra or {}).get("calibration")
    for title, task in _calibrated(found).items():
        central = task.get("central")
        if not isinstance(central, Mapping):
            continue
        for level, share, low, high in zip(
            *(central[key] for key in ("level", "coverage", "low", "high")), strict=True
        ):
            if level in _LEVELS and not low <= level <= high:
                side = "few" if share < level else "many"
                yield (
                    f"{escaped(title)}: central intervals of {100 * level:g} % hold too {side} true values: "
                    f"{interval(share, low, high)}."
                )
    if isinstance(block, Mapping) and block.get("seen_before"):
        yield (
            "The predicted uncertainties were fitted to these held-out objects, so their calibration may look better "
            "than that of new ones."
        )


def reference_lines(found: ValidationFile) -> list[str]:
    """Return the sources of the formulas of the metrics."""
    sources = {text for task in found.tasks.values() for metric in task.metrics.values() for text in metric.references}
    return [f"- {escaped(text)}" for text in sorted(sources)]


def load_lines() -> list[str]:
    """Return how to use the model."""
    return [
        "`model` is the folder with model.safetensors and model.json, or the run directory.",
        "",
        "```python",
        "import hpctrain",
        "",
        'table = hpctrain.load("model").predict("objects.h5")',
        "```",
        "",
        "```",
        "hpctrain predict model objects.h5 --out predictions.h5",
        "```",
    ]
