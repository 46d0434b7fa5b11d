"""The figures of all tasks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctrain.validation.figures.classes import class_figures
from hpctrain.validation.figures.numbers import number_figures
from hpctrain.validation.figures.spectra import spectra_figures
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.spectra import KIND as SPECTRA
from hpctrain.validation.tasks.values import CIRCULAR, REDSHIFT, VALUE


def task_figures(judged: Judged, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of the tasks, as plain values.

    Parameters
    ----------
    judged : Judged
    found : mapping
        Contents of ``validation.json`` so far: the metrics of each task.
    """
    figures = []
    labels = {label.get("name") or label["column"]: label for label in judged.card["section"].get("labels") or ()}
    for task in judged.tasks:
        own = found["tasks"][task.title]
        if task.kind == CLASS and "confusion" in own:
            figures += class_figures(task, own["metrics"], own["confusion"], judged.target_id, found["confidence"])
        elif task.kind in (REDSHIFT, VALUE, CIRCULAR):
            unit = str(labels.get(task.title, {}).get("unit") or "")
            figures += number_figures(task, judged.columns, unit, found["confidence"])
        elif task.kind == SPECTRA:
            figures += spectra_figures(task, own)
    return figures
