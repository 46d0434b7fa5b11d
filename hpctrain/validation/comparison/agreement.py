"""What can be compared: labels that all runs predict, with the same truth, and metrics that mean the same."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.validation.comparison.entrants import Entrant, labels_of
from hpctrain.validation.tasks.task import Metric, Task

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "class": ("accuracy",),
    "redshift": ("nmad",),
    "value": ("rmse",),
    "circular": ("scatter",),
    "anomalies": ("average_precision",),
}
"""Kind of task to the metric that decides which run is better, unless ``--metric`` names another one."""
_LEARNED_UNIT = ("crps", "log_loss", "cde_loss")
"""Metrics of numbers in the unit that a model learns, which is that of its label's scale and logarithm."""
_UNIT_KEYS = ("log10", "centre", "scale")
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Shared:
    """A label that all runs predict.

    Parameters
    ----------
    title : str
    tasks : tuple of Task
        One for each run.
    metrics : tuple of Metric
        Those that mean the same in all runs; the first one decides which run is better.
    """

    title: str
    tasks: tuple[Task, ...]
    metrics: tuple[Metric, ...]


@dataclass
class Agreement:
    """Labels to compare, and what a reader must know about those that are not."""

    shared: list[Shared] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def agree(entrants: Sequence[Entrant], wanted: Sequence[str] = ()) -> Agreement:
    """Return what the runs can be compared by.

    Parameters
    ----------
    entrants : sequence of Entrant
        At the same rows.
    wanted : sequence of str
        Metrics as the user names them: ``nmad``, ``Z.nmad``, ``completeness.*``; the usual ones by default.

    Raises
    ------
    DataError
        The true values of a label differ between the runs.
    ProfileError
        There is no metric of a wanted name.
    """
    found, refused = Agreement(), []
    for title in [task.title for task in entrants[0].judged.tasks]:
        tasks = [next((t for t in each.judged.tasks if t.title == title), None) for each in entrants]
        if any(task is None for task in tasks):
            continue
        reason = _why_not(title, entrants, tasks)  # type: ignore[arg-type]
        if reason:
            refused.append(reason)
            continue
        metrics = _same_metrics(title, entrants, tasks)  # type: ignore[arg-type]
        found.shared.append(Shared(title, tuple(tasks), metrics))  # type: ignore[arg-type]
    if refused:
        raise DataError("\n".join(refused))
    only = {t.title for each in entrants for t in each.judged.tasks} - {each.title for each in found.shared}
    found.notes += [f"{title} is not predicted by all runs and does not count" for title in sorted(only)]
    found.shared = [each for each in (_chosen(shared, wanted) for shared in found.shared) if each.metrics]
    _refuse_unknown(found.shared, entrants, wanted)
    return found


def refuse_other_labels(entrants: Sequence[Entrant]) -> None:
    """Raise DataError if there is no label that all runs predict."""
    titles = [{task.title for task in each.judged.tasks} for each in entrants]
    if not set.intersection(*titles):
        lines = [f"  {each.name}: {', '.join(t.title for t in each.judged.tasks)}" for each in entrants]
        raise DataError("\n".join(["the runs predict nothing in common:", *lines]))


def _why_not(title: str, entrants: Sequence[Entrant], tasks: Sequence[Task]) -> str:
    """Return why the values of a label cannot be compared; empty if they can."""
    if len({task.kind for task in tasks}) > 1:
        kinds = ", ".join(f"{each.name} {task.kind}" for each, task in zip(entrants, tasks, strict=True))
        return f"{title}: is of different kinds ({kinds}); a comparison needs one kind of label"
    truths = [_truth(each, title, task) for each, task in zip(entrants, tasks, strict=True)]
    for each, truth in zip(entrants[1:], truths[1:], strict=True):
        if (apart := _different(truths[0], truth)) is None:
            continue
        columns = [str(labels_of(one.judged).get(title, {}).get("column", title)) for one in (entrants[0], each)]
        return (
            f"{title}: the true values of {entrants[0].name} and {each.name} differ at {apart.sum():,} of "
            f"{len(apart):,} shared rows, first at object {entrants[0].judged.target_id[int(np.argmax(apart))]} "
            f"(columns {columns[0]} and {columns[1]}); compare runs that learned the same label"
        )
    return ""


def _truth(entrant: Entrant, title: str, task: Task) -> np.ndarray | None:
    """Return the true values of a label; names for classes."""
    true = task.arrays.get("true")
    if true is None or true.ndim != 1 or task.kind != "class":
        return true if true is not None and true.ndim == 1 else None
    classes = labels_of(entrant.judged).get(title, {}).get("classes") or ()
    names = np.array([*map(str, classes), ""])  # type: ignore[arg-type]
    return names[true]


def _different(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """Return at which rows two truths differ; None if nowhere. A truth that only one of them has is no difference."""
    if first is None or second is None:
        return None
    if first.dtype.kind == "f" and second.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            apart = np.abs(first - second) > _TOLERANCE * np.maximum(1.0, np.abs(first))
    else:
        apart = first != second
        if first.dtype.kind == "U":
            apart &= (first != "") & (second != "")
    return apart if apart.any() else None


def _same_metrics(title: str, entrants: Sequence[Entrant], tasks: Sequence[Task]) -> tuple[Metric, ...]:
    """Return the metrics that all runs have and define in the same way."""
    labels = [labels_of(each.judged).get(title, {}) for each in entrants]
    same_unit = all(label.get(key) == labels[0].get(key) for label in labels for key in _UNIT_KEYS)
    found = []
    for metric in tasks[0].metrics:
        others = [next((m for m in task.metrics if m.name == metric.name), None) for task in tasks[1:]]
        if any(other is None or other.description != metric.description for other in others):
            continue
        if tasks[0].kind != "class" and metric.name in _LEARNED_UNIT and not same_unit:
            continue
        found.append(metric)
    return tuple(found)


def _chosen(shared: Shared, wanted: Sequence[str]) -> Shared:
    """Return a label with the metrics to compare, the deciding one first."""
    if wanted:
        hits = [m for text in wanted for m in shared.metrics if _is_meant(text, shared.title, m)]
        return Shared(shared.title, shared.tasks, tuple(dict.fromkeys(hits)))
    usual = [metric for metric in shared.metrics if not metric.of]
    first = HEADLINES.get(shared.tasks[0].kind, ())
    return Shared(shared.title, shared.tasks, tuple(sorted(usual, key=lambda metric: metric.name not in first)))


def _is_meant(text: str, title: str, metric: Metric) -> bool:
    names = (metric.name, f"{title}.{metric.name}", metric.of, f"{title}.{metric.of}")
    return any(name and fnmatch.fnmatchcase(name, text) for name in names)


def _refuse_unknown(shared: Sequence[Shared], entrants: Sequence[Entrant], wanted: Sequence[str]) -> None:
    unknown = [text for text in wanted if not any(_is_meant(text, s.title, m) for s in shared for m in s.metrics)]
    if not unknown:
        return
    known = [f"{task.title}.{metric.name}" for task in entrants[0].judged.tasks for metric in task.metrics]
    reason = f"no metric that all runs have and define alike has this name; {entrants[0].name} has {', '.join(known)}"
    raise ProfileError("command line", [Problem(f"--metric {text}", reason) for text in unknown])
