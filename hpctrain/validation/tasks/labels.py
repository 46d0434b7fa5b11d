"""The tasks of a model that learns labels: one per label of its card that the held-out samples have. R rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.families.labels.section import CIRCULAR, CLASS, DENSITY
from hpctrain.validation.tasks import values
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.task import Task

_REDSHIFT_NAMES = re.compile(r"^(redshift|photo_?z|z_?(s|sp|spec|phot|true|best)?|spec_?z)$", re.IGNORECASE)
"""Names of columns without unit that hold redshifts, if their values can be some."""


def label_tasks(card: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> tuple[Task, ...]:
    """Return a task for each label with truth.

    Parameters
    ----------
    card : mapping
        The model's card.
    columns : mapping of str to ndarray, shape (R, ...)
        Of ``results/predictions.h5``.
    """
    tasks = [_task(label, columns) for label in card["section"].get("labels") or ()]
    return tuple(task for task in tasks if task is not None and task.known.any())


def _task(label: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> Task | None:
    title = label.get("name") or str(label["column"]).rsplit("/", 1)[-1]
    if f"{title}_TRUE" not in columns or f"{title}_PRED" not in columns:
        return None
    true, predicted = columns[f"{title}_TRUE"], columns[f"{title}_PRED"]
    if label["kind"] == CLASS:
        classes = tuple(label.get("classes") or ())
        numbers = [numbers_of(texts, classes) for texts in (true, predicted)]
        return class_task(title, classes, *numbers, columns.get(f"{title}_PROB"))
    own = {name.removeprefix(f"{title}_"): column for name, column in columns.items() if name.startswith(f"{title}_")}
    kind = values.CIRCULAR if label["kind"] == CIRCULAR else values.VALUE
    if is_redshift(label, true):
        kind = values.REDSHIFT
    return values.number_task(
        title,
        kind,
        true,
        predicted,
        unit=label.get("unit") or "",
        outlier=label.get("outlier"),
        period=label.get("period"),
        columns=own,
    )


def is_redshift(label: Mapping[str, Any], true: np.ndarray) -> bool:
    """Return whether a label is a redshift: a grid in ln(1 + value), or a name and values of redshifts.

    Parameters
    ----------
    label : mapping
        Its entry in the card.
    true : ndarray, shape (R,)
    """
    if label["kind"] == DENSITY and label.get("spacing") == "log1p":
        return True
    if label["kind"] in (CLASS, CIRCULAR) or label.get("unit"):
        return False
    name = label.get("name") or str(label["column"]).rsplit("/", 1)[-1]
    own = str(label["column"]).rsplit("/", 1)[-1]
    known = true[np.isfinite(true)]
    can_be = len(known) > 0 and known.min() > -0.02 and known.max() < 20
    return can_be and any(_REDSHIFT_NAMES.match(each) is not None for each in (name, own))


def numbers_of(texts: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Return the numbers of classes that are texts (R,), bytes or str; -1 for an empty or another text."""
    names = np.char.encode(np.array(classes, dtype=str), "utf-8") if len(classes) else np.empty(0, dtype="S1")
    if texts.dtype.kind != "S":
        texts = np.char.encode(np.asarray(texts, dtype=str), "utf-8")
    order = np.argsort(names)
    at = np.searchsorted(names[order], texts)
    found = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(texts), dtype=np.int64)
    return np.where(names[found] == texts, found, -1) if len(order) else np.full(len(texts), -1)
