"""Classes: completeness and purity, F1, log loss, Brier score, ROC and precision-recall. R rows, C classes, D draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hpctrain.validation.tasks.anomalies import detection
from hpctrain.validation.tasks.ranked import AreaUnderRoc, AveragePrecision, Ranked
from hpctrain.validation.tasks.scales import LOG
from hpctrain.validation.tasks.sums import Sums, mean, share
from hpctrain.validation.tasks.task import BOUNDED, HIGHER, LOWER, OVERLAP, SKEWED, Metric, Statistic, Task, make_task

KIND = "class"
MOST_SINGLE = 50
"""Largest number of classes with metrics of their own; of more, the task has only those of all together."""

_FAWCETT = "Fawcett 2006, Pattern Recognition Letters 27, 861"
_GOOD = "Good 1952, JRSS B 14, 107"
_BRIER = "Brier 1950, Monthly Weather Review 78, 1"
_DAVIS = "Davis & Goadrich 2006, ICML, 233"
_SOKOLOVA = "Sokolova & Lapalme 2009, Information Processing & Management 45, 427"

Part = tuple[Metric, Statistic]


def class_task(
    title: str, classes: Sequence[str], true: np.ndarray, predicted: np.ndarray, probability: np.ndarray | None
) -> Task:
    """Return the task of a class.

    Parameters
    ----------
    title : str
        Name of the label.
    classes : sequence of str
        The C names.
    true, predicted : ndarray, shape (R,), int
        Numbers of the classes; -1 where there is none.
    probability : ndarray, shape (R, C), or None
        Probability of each class.
    """
    known = (true >= 0) & (predicted >= 0)
    counts = _one_hot(true, known, len(classes)), _one_hot(predicted, known, len(classes))
    parts = _together(true, predicted, known, counts)
    arrays = {"true": true, "predicted": predicted}
    if probability is not None:
        probability = np.asarray(probability, dtype=np.float64)
        known = known & np.isfinite(probability).all(axis=1)
        arrays["probability"] = probability
        parts += _probabilistic(true, probability, known)
    ranked: dict[str, list[Statistic]] = {}
    if len(classes) <= MOST_SINGLE:
        for number, name in enumerate(classes):
            parts += _single(name, true == number, predicted == number, known)
            if probability is not None and 0 < np.count_nonzero(true[known] == number) < np.count_nonzero(known):
                own = _ranking(name, true == number, probability[:, number], known)
                parts += own
                for metric, statistic in own:
                    ranked.setdefault(metric.of, []).append(statistic)
    parts += _averaged(ranked)
    if probability is not None and len(classes) == 2:  # one that is searched for among many others
        parts += detection(Ranked(probability[:, 1], true == 1, known))
    details = partial(_details, list(classes), true, predicted, known)
    return make_task(title, KIND, known, parts, arrays, details)


def _one_hot(numbers: np.ndarray, known: np.ndarray, num_classes: int) -> np.ndarray:
    """Return 1 in the column of each class, (R, C); 0 everywhere in other rows."""
    found = np.zeros((len(numbers), num_classes))
    rows = np.flatnonzero(known)
    found[rows, numbers[rows]] = 1.0
    return found


def _together(true: np.ndarray, predicted: np.ndarray, known: np.ndarray, counts: tuple[Any, Any]) -> list[Part]:
    accuracy = Metric("accuracy", "accuracy", "", HIGHER, "Share of objects whose class is right.")
    f1 = Metric(
        "macro_f1",
        "macro-averaged F1",
        "",
        HIGHER,
        "Mean over the true classes of F1, the harmonic mean of completeness and purity.",
        (_SOKOLOVA,),
    )
    recall = Metric(
        "balanced_accuracy", "balanced accuracy", "", HIGHER, "Mean over the true classes of the completeness."
    )
    has, guessed = counts
    sums = np.concatenate([has * guessed, has, guessed], axis=1)
    return [
        (accuracy, share(true == predicted, known)),
        (f1, Sums(sums, known, macro_f1, None, BOUNDED)),
        (recall, Sums(sums, known, balanced_accuracy, None, BOUNDED)),
    ]


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the true classes, (D,), from right, true and predicted numbers of each class (D, 3 C).

    References
    ----------
    .. [1] Sokolova & Lapalme 2009, Information Processing & Management 45, 427.
    """
    both, true, guessed = np.split(sums, 3, axis=1)
    return _over_true(2 * both / (true + guessed), true)


def balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    """Return the mean completeness of the true classes, (D,), from the sums of :func:`macro_f1`."""
    both, true, _ = np.split(sums, 3, axis=1)
    return _over_true(both / true, true)


def _over_true(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    has = true > 0
    return np.where(has, values, 0.0).sum(axis=1) / has.sum(axis=1)


def _probabilistic(true: np.ndarray, probability: np.ndarray, known: np.ndarray) -> list[Part]:
    safe = np.where(known, true, 0)
    of_true = np.where(known, probability[np.arange(len(true)), safe], np.nan)
    tiny = float(np.finfo(np.float32).tiny)  # a probability of 0 counts with 87 nat, instead of infinitely
    square = (probability**2).sum(axis=1) - 2 * of_true + 1
    log_loss = Metric(
        "log_loss", "log loss", "nat", LOWER, "Mean of minus the log of the probability of the true class.", (_GOOD,)
    )
    brier = Metric(
        "brier",
        "Brier score",
        "",
        LOWER,
        "Mean over objects of the sum over classes of the squared distance of probability from truth; 0 to 2.",
        (_BRIER,),
    )
    log = -np.log(np.maximum(of_true, tiny))
    return [
        (log_loss, mean(log)),
        (brier, mean(np.where(known, square, np.nan), SKEWED, LOG)),
    ]


def _single(name: str, is_true: np.ndarray, is_predicted: np.ndarray, known: np.ndarray) -> list[Part]:
    """Return completeness, purity and F1 of one class."""
    both = is_true & is_predicted
    completeness = Metric(
        f"completeness.{name}",
        f"completeness of {name}",
        "",
        HIGHER,
        f"Share of the true {name} that are called so (recall).",
        (_FAWCETT,),
        "completeness",
    )
    purity = Metric(
        f"purity.{name}",
        f"purity of {name}",
        "",
        HIGHER,
        f"Share of those called {name} that are so (precision).",
        (_FAWCETT,),
        "purity",
    )
    f1 = Metric(
        f"f1.{name}",
        f"F1 of {name}",
        "",
        HIGHER,
        f"Harmonic mean of completeness and purity of {name}.",
        (_SOKOLOVA,),
        "f1",
    )
    either = known & (is_true | is_predicted)
    return [
        (completeness, share(both, known & is_true)),
        (purity, share(both, known & is_predicted)),
        (f1, f1_of(both, either)),
    ]


class F1(Sums):
    """F1 of one class: 2 J / (1 + J), where J is the share of right ones among those that are or are called so."""

    @staticmethod
    def of_share(overlap: np.ndarray) -> np.ndarray:
        """Return F1 of J."""
        return 2 * overlap / (1 + overlap)


def f1_of(both: np.ndarray, either: np.ndarray) -> F1:
    """Return F1 of a class from rows that are right, and that are or are called so; (R,), bool, each."""
    columns = np.stack([both & either, either], axis=1).astype(np.float64)
    return F1(columns, either, lambda sums: F1.of_share(sums[:, 0] / sums[:, 1]), None, OVERLAP)


def _ranking(name: str, is_true: np.ndarray, score: np.ndarray, known: np.ndarray) -> list[Part]:
    ranked = Ranked(score, is_true, known)
    roc = Metric(
        f"roc_auc.{name}",
        f"area under ROC of {name}",
        "",
        HIGHER,
        f"Probability that a {name} has a higher probability of {name} than another object.",
        (_FAWCETT,),
        "roc_auc",
    )
    precision = Metric(
        f"average_precision.{name}",
        f"average precision of {name}",
        "",
        HIGHER,
        f"Mean purity over the completeness of {name}, as the threshold falls.",
        (_DAVIS,),
        "average_precision",
    )
    return [(roc, AreaUnderRoc(ranked)), (precision, AveragePrecision(ranked))]


def _averaged(ranked: Mapping[str, list[Statistic]]) -> list[Part]:
    """Return the means over the classes of the metrics of rankings."""
    labels = {"roc_auc": "area under ROC", "average_precision": "average precision"}
    found: list[Part] = []
    for of, statistics in ranked.items():
        text = f"Mean over the classes, each against all others, of the {labels[of]}."
        found.append((Metric(of, f"mean {labels[of]}", "", HIGHER, text, (_FAWCETT,)), MeanOf(statistics)))
    return found


class MeanOf:
    """The mean of several metrics; those that a draw does not define are left out.

    Parameters
    ----------
    statistics : list of Statistic
    """

    how, values = BOUNDED, None

    def __init__(self, statistics: list[Statistic]) -> None:
        self.parts = statistics
        self.used = np.any([each.used for each in statistics], axis=0)

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the means for weights (D, R), as (D,)."""
        found = np.stack([each.scores(weights) for each in self.parts])
        has = np.isfinite(found)
        return np.where(has, found, 0.0).sum(axis=0) / np.where(has.any(axis=0), has.sum(axis=0), np.nan)


def _details(classes: list[str], true: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Return the confusion: how often each class was predicted for each true class."""
    num = len(classes)
    flat = np.bincount(true[known] * num + predicted[known], minlength=num * num).reshape(num, num)
    return {"confusion": {"classes": classes, "true_by_predicted": flat.tolist()}}
