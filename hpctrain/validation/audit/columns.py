"""Inputs that give the label away: each alone predicts it too well, or its name says so. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.leaks import has_name_of_id, looks_like_id, name_gives_away
from hpctrain.samples.split import TRAIN, choose_rows
from hpctrain.validation.audit.findings import LEAK, NOTE, SUSPICION, Finding
from hpctrain.validation.audit.rows import Rows

if TYPE_CHECKING:
    from hpctrain.families.labels.section import LabelSection

MOST_ROWS = 20_000
"""Training rows that the power of a column is measured on."""

FEWEST_ROWS = 60
"""Training rows with a label below which nothing is measured."""

NUM_LEAVES = 256
"""Leaves of the tree, so that it can follow any curve."""

FEWEST_OF_CLASS = 4
"""Rows of a class that is looked at."""


def find_columns(rows: Rows, labels: Sequence[LabelSection], power: float, allowed: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each input that gives a label away, or that identifies the object.

    Parameters
    ----------
    rows : Rows
    labels : sequence of LabelSection
        ``model.labels``.
    power : float
        Power from which a column alone is too good; see :func:`power_of`.
    allowed : sequence of str
        Columns that the user has looked at and accepts.
    """
    names = [name for name in rows.names if name not in allowed]
    at = [rows.names.index(name) for name in names]
    if not names:
        return
    trained = np.flatnonzero(rows.side == TRAIN)
    chosen = choose_rows(rows.target_id, trained, MOST_ROWS, rows.data.split.salt + "/audit")
    features = rows.read(chosen).features
    if features is None or not len(chosen):
        return
    values = features[:, at].astype(np.float64)
    measured: dict[tuple[str, str], float] = {}
    for label in labels:
        try:
            truth = _truth(rows.column(label.column)[chosen], label)
        except DataError as error:
            yield Finding(NOTE, "no-label", f"the label cannot be read: {error}", key="model.labels")
            continue
        for name, column in zip(names, values.T, strict=True):
            measured[name, label.title] = power_of(column, truth, label)
    for name, column in zip(names, values.T, strict=True):
        yield from _judge(name, column, labels, measured, power, rows.names)


def _judge(
    name: str,
    column: np.ndarray,
    labels: Sequence[LabelSection],
    measured: dict[tuple[str, str], float],
    power: float,
    others: Sequence[str],
) -> Iterator[Finding]:
    change = f"remove '{name}' from the columns that the model reads, or accept it with validate.audit.allow"
    for label in labels:
        score = measured.get((name, label.title), np.nan)
        reason = name_gives_away(name, label.column, label.kind, others)
        if score >= power:
            yield Finding(
                LEAK,
                "label-in-column",
                f"'{name}' alone predicts the label '{label.title}' (power {score:.3f} of 1"
                + (f"; it {reason})" if reason else ")"),
                "a column that knows the label will not be there, or not be so good, for new objects",
                change,
                1,
                "data.features",
                values={"column": name, "label": label.title, "power": round(score, 4)},
            )
            return
        if reason:
            told = f" (power {score:.3f} of 1)" if np.isfinite(score) else ""
            yield Finding(
                SUSPICION,
                "label-in-name",
                f"'{name}' {reason}{told}",
                "what follows from the label is not known for new objects",
                change,
                1,
                "data.features",
                values={"column": name, "label": label.title},
            )
            return
    if has_name_of_id(name) or looks_like_id(column):
        how = "is called like an identifier" if has_name_of_id(name) else "has different whole numbers in all rows"
        yield Finding(
            SUSPICION,
            "id-as-input",
            f"'{name}' {how}",
            "a model can learn from it which object or observation it sees, which says nothing about new objects",
            change,
            1,
            "data.features",
            values={"column": name},
        )


def _truth(column: np.ndarray, label: LabelSection) -> np.ndarray:
    """Return the label of some rows: texts (empty where there is none), or numbers (NaN)."""
    from hpctrain.families.labels.columns import texts_of, values_of

    return texts_of(column, label) if label.kind == "class" else values_of(column, label)


def power_of(column: np.ndarray, truth: np.ndarray, label: LabelSection) -> float:
    """Return how well one column alone predicts a label: 0 is chance, 1 is perfect.

    Parameters
    ----------
    column : ndarray, shape (n,)
        NaN where a value is missing.
    truth : ndarray, shape (n,)
        Texts or numbers; empty or NaN where there is no label.
    label : LabelSection

    Returns
    -------
    float
        Of a class, the balanced accuracy of a tree on rows that it has not seen, from chance to 1; of a number, the
        share of the variance of its rank that the tree explains. NaN if there are too few rows.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    known = truth != "" if label.kind == "class" else np.isfinite(truth.astype(np.float64))
    if label.kind == "class":
        _, number, counts = np.unique(truth.astype(str), return_inverse=True, return_counts=True)
        known &= (counts >= FEWEST_OF_CLASS)[number.reshape(-1)]
    if known.sum() < FEWEST_ROWS:
        return float("nan")
    column, truth = _filled(column[known])[:, None], truth[known]
    limits: dict[str, Any] = {"max_leaf_nodes": NUM_LEAVES, "min_samples_leaf": 2, "random_state": 0}
    if label.kind == "class":
        names, number = np.unique(truth.astype(str), return_inverse=True)
        if len(names) < 2:
            return float("nan")
        guess = _unseen(DecisionTreeClassifier(class_weight="balanced", **limits), column, number)
        right = np.array([(guess[number == each] == each).mean() for each in range(len(names))])
        return max(0.0, (float(right.mean()) - 1 / len(names)) / (1 - 1 / len(names)))
    wanted = _targets(truth.astype(np.float64), label)
    guess = _unseen(DecisionTreeRegressor(**limits), column, wanted).reshape(wanted.shape)
    variance = float(np.square(wanted - wanted.mean(axis=0)).sum())
    return max(0.0, 1 - float(np.square(wanted - guess).sum()) / variance) if variance > 0 else float("nan")


def _unseen(tree: Any, column: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return what a tree that has learned one half predicts for the other; both have the same share of each class."""
    mixed = np.random.default_rng(0).permutation(len(wanted))
    mixed = mixed[np.argsort(wanted.reshape(len(wanted), -1)[mixed, 0], kind="stable")]
    guess = np.zeros(wanted.shape, dtype=wanted.dtype)
    for one, other in ((mixed[::2], mixed[1::2]), (mixed[1::2], mixed[::2])):
        guess[other] = tree.fit(column[one], wanted[one]).predict(column[other]).reshape(guess[other].shape)
    return guess


def _targets(truth: np.ndarray, label: LabelSection) -> np.ndarray:
    """Return what a tree predicts for a number (n, 1 or 2): its rank, or the point on the circle."""
    if label.kind == "circular" and label.period:
        angle = 2 * np.pi * truth / label.period
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    _, number, counts = np.unique(truth, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - counts / 2
    return (rank[number.reshape(-1)] / len(truth))[:, None]


def _filled(column: np.ndarray) -> np.ndarray:
    """Return a column whose missing values are below all others: that one is missing may give the label away."""
    known = np.isfinite(column)
    below = column[known].min() - 1 - np.ptp(column[known]) if known.any() else 0.0
    return np.where(known, column, below)
