"""What cross-validated runs say about the objects that each of them held out, put together. R rows in all."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain import __version__
from hpctrain.errors import DataError, SiteError
from hpctrain.files import NewFile
from hpctrain.profile.lookup import find_family
from hpctrain.rundir import RunDir
from hpctrain.search.crossval import TEST_FOLD, is_crossval
from hpctrain.search.folder import StudyDir
from hpctrain.search.folds import tasks_of
from hpctrain.search.ranking import ranked
from hpctrain.search.trials import Trial, read_trials
from hpctrain.states import FINISHED
from hpctrain.validation.columns import RunColumns
from hpctrain.validation.intervals import CONFIDENCE, DRAWS, Score, intervals
from hpctrain.validation.judged import Judged, read_judged
from hpctrain.validation.judged import tasks_of as judged_tasks
from hpctrain.validation.resampled import corrected_mean
from hpctrain.validation.tasks.clusters import KIND as CLUSTERS
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.validate import describe, finite, score_json

CATALOGUE = "out_of_fold.h5"
RESULT = "crossval.json"
FORMAT = "hpctrain-crossval"
NOTHING = Score(np.nan, np.nan, np.nan, 0, 0)
VERSION = 1


@dataclass(frozen=True)
class Part:
    """One run: it held out one fold of one repeat."""

    repeat: int
    fold: int
    run: RunDir
    judged: Judged


def gather(study: StudyDir, trial: int | None = None) -> list[Part]:
    """Return the runs of a cross-validation, of the best trial of a search with folds, or of a nested one.

    Parameters
    ----------
    study : StudyDir
    trial : int, optional
        Take this trial of a search.

    Raises
    ------
    SiteError
        It is not finished.
    DataError
        A run says nothing about what it held out, or two runs of a repeat held out the same object.
    """
    section, trials = study.section(), read_trials(study, ask_queue=True)
    if TEST_FOLD in section.space:
        return _tested(study, trials)
    if not section.folds:
        raise DataError(f"{study.path}: its trials are not cross-validated; set folds in the study file")
    chosen = _chosen(study, trials, trial)
    _refuse_unfinished(study, chosen)
    parts = []
    for repeat, each in enumerate(chosen):
        runs = [study.run(task, section) for task in tasks_of(section, [each.number])]
        for fold, run in zip(section.held_out_folds, runs, strict=True):
            parts.append(Part(repeat, fold, run, read_judged(run)))
    _refuse_twice(study.path, parts)
    return parts


def _tested(study: StudyDir, trials: Sequence[Trial]) -> list[Part]:
    """Return the runs of a nested cross-validation, each of which was tested on one fold."""
    _refuse_unfinished(study, trials)
    runs = [(int(trial.values[TEST_FOLD]), study.trial(trial.number)) for trial in trials]
    parts = [Part(0, fold, run, read_judged(run)) for fold, run in sorted(runs, key=lambda each: each[0])]
    _refuse_twice(study.path, parts)
    return parts


def _chosen(study: StudyDir, trials: Sequence[Trial], number: int | None) -> list[Trial]:
    section = study.section()
    if number is not None:
        if not 0 <= number < len(trials):
            raise SiteError(f"{study.path}: there is no trial {number}; there are {len(trials)}")
        return [trials[number]]
    if is_crossval(section):
        return list(trials)
    order = ranked(section, trials)
    if not order:
        raise SiteError(f"{study.path}: no trial has finished yet; hpctrain search status {study.path}")
    return order[:1]


def _refuse_unfinished(study: StudyDir, trials: Sequence[Trial]) -> None:
    if missing := [trial for trial in trials if trial.state != FINISHED]:
        lines = [f"\n  trial {trial.number}: {trial.state}, {trial.reason or 'not started'}" for trial in missing[:10]]
        raise SiteError(
            f"{study.path}: {len(missing)} of {len(trials)} trials have not finished:{''.join(lines)}\n"
            f"  look with: hpctrain search status {study.path}; go on with: hpctrain search resume {study.path}"
        )


def _refuse_twice(path: Path, parts: Sequence[Part]) -> None:
    """Refuse folds that share an object: one of them was trained on what the other held out."""
    for repeat in {part.repeat for part in parts}:
        ids = [np.unique(part.judged.target_id) for part in parts if part.repeat == repeat]
        found, counts = np.unique(np.concatenate(ids), return_counts=True)
        if (counts > 1).any():
            raise DataError(
                f"{path}: {np.count_nonzero(counts > 1):,} objects were held out by several folds (such as "
                f"{found[counts > 1][0]}); the data files have changed between the folds, so train all folds again"
            )


def pooled(name: str, parts: Sequence[Part]) -> Judged:
    """Return the predictions of all runs as one table, with the columns ``REPEAT`` and ``FOLD``."""
    first = parts[0].judged
    card, tables = _one_card([part.judged for part in parts])
    names = [each for each in tables[0] if all(_shape(table, each) == _shape(tables[0], each) for table in tables)]
    columns = {each: np.concatenate([table[each] for table in tables]) for each in names}
    lengths = [len(part.judged) for part in parts]
    columns["REPEAT"] = np.repeat([part.repeat for part in parts], lengths)
    columns["FOLD"] = np.repeat([part.fold for part in parts], lengths)
    target_id, row = (np.concatenate([getattr(part.judged, key) for part in parts]) for key in ("target_id", "row"))
    tasks = judged_tasks(card, columns)
    return Judged(first.run, name, card, target_id, row, columns, tasks, RunColumns(first.run))


def _shape(table: Mapping[str, np.ndarray], name: str) -> tuple[int, ...] | None:
    return table[name].shape[1:] if name in table else None


def _one_card(judged: Sequence[Judged]) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Return a card with the classes of all models, and their columns with probabilities in this order.

    A class that is missing among the training objects of one fold has the probability 0 there.
    """
    card = {**judged[0].card, "section": dict(judged[0].card["section"])}
    tables = [dict(each.columns) for each in judged]
    labels = []
    for index, label in enumerate(card["section"].get("labels") or ()):
        title = label.get("name") or str(label["column"]).rsplit("/", 1)[-1]
        own = [list(each.card["section"]["labels"][index].get("classes") or ()) for each in judged]
        together = list(dict.fromkeys(name for names in own for name in names))
        for table, names in zip(tables, own, strict=True):
            if (values := table.get(f"{title}_PROB")) is not None and names != together:
                wide = np.zeros((len(values), len(together)), dtype=values.dtype)
                wide[:, [together.index(name) for name in names]] = values
                table[f"{title}_PROB"] = wide
        labels.append({**label, "classes": together} if together else label)
    if labels:
        card["section"]["labels"] = labels
    return card, tables


def summarise(study: StudyDir, parts: Sequence[Part], together: Judged) -> dict[str, Any]:
    """Return each metric: its mean over folds with the corrected interval, and that of all objects together.

    Parameters
    ----------
    study : StudyDir
    parts : sequence of Part
    together : Judged
        Of :func:`pooled`.
    """
    ratio = _test_to_train(parts)
    return finite(
        {
            "format": FORMAT,
            "version": VERSION,
            "hpctrain_version": __version__,
            "made_at": time.time(),
            "study": str(study.path),
            "family": together.card["family"],
            "folds": len({part.fold for part in parts}),
            "split": together.card.get("split"),
            "repeats": len({part.repeat for part in parts}),
            "test_to_train": ratio,
            "num_objects": len(np.unique(together.target_id)),
            "confidence": CONFIDENCE,
            "draws": DRAWS,
            "runs": [{"repeat": part.repeat, "fold": part.fold, "run": str(part.run.path)} for part in parts],
            "tasks": {task.title: _task_json(task, parts, together, ratio) for task in together.tasks},
        }
    )


def _test_to_train(parts: Sequence[Part]) -> float:
    """Return the number of held-out objects over that of objects trained on, as a mean over the runs."""
    sizes = {(part.repeat, part.fold): len(np.unique(part.judged.target_id)) for part in parts}
    totals = {repeat: sum(size for (own, _), size in sizes.items() if own == repeat) for repeat, _ in sizes}
    return float(np.mean([size / (totals[repeat] - size) for (repeat, _), size in sizes.items()]))


def _task_json(task: Task, parts: Sequence[Part], together: Judged, ratio: float) -> dict[str, Any]:
    names = [metric.name for metric in task.metrics]
    scores = intervals(task, names, together.target_id)
    found = {}
    for metric in task.metrics:
        values = [_score(part.judged, task.title, metric.name) for part in parts]
        mean = corrected_mean(values, ratio)
        own = {"mean": mean.value, "standard_error": mean.standard_error, "low": mean.low, "high": mean.high}
        # Clusters of different folds have nothing in common but their numbers.
        pooled_score = score_json(scores[metric.name] if task.kind != CLUSTERS else NOTHING)
        found[metric.name] = {**describe(metric), **own, "values": values, "pooled": pooled_score}
    return {"kind": task.kind, "metrics": found}


def _score(judged: Judged, title: str, metric: str) -> float:
    """Return a metric of one fold; NaN where the fold has no such class."""
    task = next((task for task in judged.tasks if task.title == title), None)
    return float("nan") if task is None or metric not in task.statistics else task.score(metric)


def write_catalogue(together: Judged, path: Path) -> None:
    """Write the predictions of all held-out objects with their folds, whole or not at all."""
    meanings = find_family(together.card["family"]).columns_of(together.card)
    own = {"REPEAT": "repeat of the cross-validation", "FOLD": "fold whose model predicted the object"}
    columns = {"target_id": together.target_id, "row": together.row, **together.columns}
    with NewFile(path, durable=False, replace_folders=True) as new, h5py.File(new.stream, "w") as file:
        file.attrs.update(format="hpctrain-out-of-fold", format_version=VERSION, hpctrain_version=__version__)
        file.attrs.update(family=str(together.card["family"]), model_name=together.name)
        for name, values in columns.items():
            file[name] = values
            column = meanings.get(name)
            known = {"unit": column.unit, "description": column.description} if column else {}
            known |= {"description": own[name]} if name in own else {}
            file[name].attrs.update({key: text for key, text in known.items() if text})
