"""What the finished trials of a study say about the objects that all of them held out. M trials, R rows, L labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.labels.section import CLASS
from hpctrain.families.result_files import read_datasets
from hpctrain.files import open_regular
from hpctrain.rundir import RunDir, read_json
from hpctrain.samples.hashing import hash_ids
from hpctrain.search.folder import StudyDir
from hpctrain.search.trials import Trial

MOST_CANDIDATES = 200
"""Largest number of trials that an ensemble chooses from: the best ones of the study."""
MOST_ROWS = 50_000
"""Largest number of held-out rows; of more, those whose objects have the lowest hashes."""
SALT = "hpctrain/ensemble"
_LARGEST_LOSS = 1e6
"""A prediction that rules the truth out counts with it [nat], instead of infinitely."""

_SAME = ("name", "column", "kind", "classes", "log10", "centre", "scale", "period", "range", "bins", "spacing", "error")
"""Keys of a label in which the members must agree, so that their predictions can be mixed."""


@dataclass(frozen=True)
class Label:
    """A label that all members predict.

    Parameters
    ----------
    title : str
        First part of the names of its columns.
    kind : str
    weight : float
        Its weight in the loss.
    is_log : bool
        Values are learned as their logarithm.
    classes : tuple of str
        Names of the classes, in the order of the columns of probabilities.
    """

    title: str
    kind: str
    weight: float
    is_log: bool
    classes: tuple[str, ...] = ()

    @property
    def loss_column(self) -> str:
        """Column of ``results/predictions.h5`` with minus the log of the probability (density) of the truth."""
        return f"{self.title}_LOG_LOSS" if self.kind == CLASS else f"{self.title}_NLL"


@dataclass(frozen=True)
class Candidates:
    """The trials that an ensemble can be made of, and the log-likelihoods of their predictions.

    Parameters
    ----------
    numbers : list of int
        The M trials, in the order of the study's objective.
    labels : list of Label
    target_id : ndarray, shape (R,), int64
    strata : ndarray, shape (R,)
        The true class of the first label that is a class; else the same for all.
    log_p : ndarray, shape (M, R, L), float64
        Log of the probability (density) that a trial gave to the true label; NaN where there is no label.
    skipped : dict of int to str
        Finished trials that cannot be members, with the reason.
    order : ndarray, shape (R,), int64
        Places of these rows in files of a trial that are sorted by object and row.
    """

    numbers: list[int]
    labels: list[Label]
    target_id: np.ndarray
    strata: np.ndarray
    log_p: np.ndarray
    order: np.ndarray
    skipped: dict[int, str] = field(default_factory=dict)


def read_candidates(study: StudyDir, order: Sequence[Trial]) -> Candidates:
    """Read the held-out predictions of the best trials.

    Parameters
    ----------
    study : StudyDir
    order : sequence of Trial
        Finished trials, best first.

    Raises
    ------
    DataError
        Fewer than two trials predict labels, or they held out different objects.
    """
    if study.section().folds:
        raise DataError(
            f"{study.path}: its trials are cross-validated, so none of them has one finished model; an ensemble is "
            "made of trials without folds"
        )
    found = {trial.number: labels_of(study.trial(trial.number)) for trial in order[:MOST_CANDIDATES]}
    skipped = {number: labels for number, labels in found.items() if isinstance(labels, str)}
    cards = {number: labels for number, labels in found.items() if not isinstance(labels, str)}
    _refuse_other_objects(study, {number: np.sort(_ids(study.trial(number))) for number in cards})
    for number, labels in cards.items():
        if reason := difference_of_labels(labels, next(iter(cards.values()))):
            skipped[number] = reason
    cards = {number: labels for number, labels in cards.items() if number not in skipped}
    if len(cards) < 2:
        why = "".join(f"\n  trial {number}: {reason}" for number, reason in list(skipped.items())[:10])
        raise DataError(
            f"{study.path}: an ensemble needs two finished trials that predict the same labels; there are "
            f"{len(cards)}{why}"
        )
    labels = [_label(each) for each in next(iter(cards.values()))]
    return _stack(study, list(cards), labels, skipped)


def labels_of(run: RunDir) -> list[Mapping[str, Any]] | str:
    """Return the settled labels of a finished run, or why it has none."""
    card = read_json(run.model / "model.json")
    if not isinstance(card, dict) or not isinstance(card.get("section"), dict):
        return "it has no finished model"
    labels = card["section"].get("labels")
    if not isinstance(labels, list) or not labels:
        return f"the family {card.get('family')} predicts no labels"
    if not predictions_of(run).is_file():
        return "it has no results/predictions.h5"
    return labels


def predictions_of(run: RunDir) -> Path:
    """Return the file with the predictions of held-out objects."""
    return run.path / "results" / "predictions.h5"


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of a table of predictions, in the order of object and row.

    Raises
    ------
    DataError
        The file is damaged, or lacks one of them.
    """
    import h5py

    wanted = ["target_id", "row", *names]
    try:
        with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
            found = read_datasets(file, wanted)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; the held-out objects of the run have no labels, or an older version "
            "of hpctrain wrote the file"
        )
    order = np.lexsort((found["row"], found["target_id"]))
    return {name: values[order] for name, values in found.items()}


def _ids(run: RunDir) -> np.ndarray:
    return read_columns(predictions_of(run), ())["target_id"]


def difference_of_labels(labels: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> str:
    """Return why the predictions of two trials cannot be mixed; empty if they can."""
    titles = [[_label(each).title for each in some] for some in (labels, first)]
    if titles[0] != titles[1]:
        return f"it predicts {', '.join(titles[0])}, and better trials predict {', '.join(titles[1])}"
    for title, mine, theirs in zip(titles[0], labels, first, strict=True):
        if keys := [key for key in _SAME if mine.get(key) != theirs.get(key)]:
            return f"its label {title} has other values of {', '.join(keys)} than that of better trials"
    return ""


def _label(values: Mapping[str, Any]) -> Label:
    title = values.get("name") or str(values["column"]).rsplit("/", 1)[-1]
    weight, classes = float(values.get("weight", 1.0)), tuple(values.get("classes") or ())
    return Label(title, values["kind"], weight, bool(values.get("log10")), classes)


def _refuse_other_objects(study: StudyDir, ids: Mapping[int, np.ndarray]) -> None:
    """Refuse trials that held out different objects: what one of them held out, another one may have learned."""
    first = next(iter(ids), -1)
    others = [number for number, found in ids.items() if not np.array_equal(found, ids[first])]
    if not others:
        return
    shared = set(ids[first].tolist())
    for number in others:
        shared &= set(ids[number].tolist())
    num, named = len(set(ids[first].tolist())), ", ".join(map(str, others[:10]))
    raise DataError(
        f"{study.path}: the trials held out different objects: trial {first} held out {num:,}, and all trials share "
        f"only {len(shared):,} of them; different are trials {named}. An object that a trial learned from cannot judge "
        "it; keep data.files and data.split the same in all trials"
    )


def _stack(study: StudyDir, numbers: list[int], labels: list[Label], skipped: dict[int, str]) -> Candidates:
    truths = [f"{label.title}_TRUE" for label in labels if label.kind == CLASS]
    first = read_columns(predictions_of(study.trial(numbers[0])), truths)
    rows = _chosen_rows(first["target_id"])
    log_p = np.empty((len(numbers), len(rows), len(labels)))
    for place, number in enumerate(numbers):
        columns = read_columns(predictions_of(study.trial(number)), [label.loss_column for label in labels])
        for index, label in enumerate(labels):
            loss = columns[label.loss_column][rows].astype(np.float64)
            log_p[place, :, index] = -np.clip(loss, -_LARGEST_LOSS, _LARGEST_LOSS)  # NaN stays NaN
    log_p[:, ~np.isfinite(log_p).all(axis=0)] = np.nan  # no label, or a trial that had nothing to predict from
    target_id = first["target_id"][rows]
    strata = first[truths[0]][rows] if truths else np.zeros(len(rows))
    return Candidates(numbers, labels, target_id, strata, log_p, rows, skipped)


def _chosen_rows(target_id: np.ndarray) -> np.ndarray:
    """Return at most `MOST_ROWS` rows, increasing, chosen by the hash of the object."""
    if len(target_id) <= MOST_ROWS:
        return np.arange(len(target_id))
    return np.sort(np.argsort(hash_ids(target_id, f"{SALT}/rows"), kind="stable")[:MOST_ROWS])


def scoring_rows(target_id: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return which rows score the ensemble, (R,), bool; the others choose its members.

    All rows of an object are on one side. Within each stratum the objects alternate in the order of their hashes, so
    both sides have the same share of each class.

    Parameters
    ----------
    target_id : ndarray, shape (R,), int64
    strata : ndarray, shape (R,)
    """
    objects, first, of_row = np.unique(target_id, return_index=True, return_inverse=True)
    _, stratum = np.unique(strata[first], return_inverse=True)
    order = np.lexsort((hash_ids(objects, SALT), stratum))
    scores = np.zeros(len(objects), dtype=bool)
    start = np.searchsorted(stratum[order], stratum[order], side="left")
    scores[order] = (np.arange(len(order)) - start) % 2 == 1
    return scores[of_row.reshape(-1)]
