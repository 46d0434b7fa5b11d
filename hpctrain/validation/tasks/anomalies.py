"""Scores that shall find unusual objects, where a column says which ones are. R rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpctrain.validation.tasks.ranked import AreaUnderRoc, AveragePrecision, Ranked, RecallAmongFirst, RecallAt
from hpctrain.validation.tasks.task import HIGHER, Metric, Statistic, Task, make_task

KIND = "anomalies"
TITLE = "anomalies"
SCORES = ("ANOMALY_SCORE", "OUTLIER")
"""Columns of results that score how unusual an object is, the first of them that a run has."""

FIRST = (10, 100)
"""Numbers of objects of the highest scores among which the unusual ones are counted."""
FALSE_POSITIVES = (0, 10)

_DAVIS = "Davis & Goadrich 2006, ICML, 233"
_FAWCETT = "Fawcett 2006, Pattern Recognition Letters 27, 861"
_METCALF = "Metcalf et al. 2019, A&A 625, A119, arXiv:1802.03609"
_MANNING = "Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, Cambridge, sect. 8.4"


def score_of(columns: Mapping[str, np.ndarray]) -> str | None:
    """Return the name of the column that scores how unusual a sample is; None if there is none."""
    return next((name for name in SCORES if name in columns), None)


def anomaly_task(score: np.ndarray, is_unusual: np.ndarray, known: np.ndarray) -> Task:
    """Return the task of a score of anomalies.

    Parameters
    ----------
    score : ndarray, shape (R,)
        Larger for more unusual objects; NaN where there is none.
    is_unusual, known : ndarray, shape (R,), bool
        Which objects are unusual, and of which that is known.
    """
    known = known & np.isfinite(score)
    ranked = Ranked(score, is_unusual, known)
    expected = np.count_nonzero(is_unusual & known) / max(np.count_nonzero(known), 1)
    precision = Metric(
        "average_precision",
        "average precision",
        "",
        HIGHER,
        f"Mean purity over the completeness, as the threshold falls; {expected:.3g} for a score by chance.",
        (_DAVIS,),
    )
    roc = Metric(
        "roc_auc",
        "area under ROC",
        "",
        HIGHER,
        "Probability that an unusual object has a higher score than another one; 0.5 by chance.",
        (_FAWCETT,),
    )
    parts: list[tuple[Metric, Statistic]] = [(precision, AveragePrecision(ranked)), (roc, AreaUnderRoc(ranked))]
    for number in FIRST:
        if number < np.count_nonzero(known):
            text = f"Share of the unusual objects among the {number} of the highest scores."
            metric = Metric(f"recall_first_{number}", f"recall among first {number}", "", HIGHER, text, (_MANNING,))
            parts.append((metric, RecallAmongFirst(ranked, first=number / np.count_nonzero(known))))
    parts += detection(ranked)
    return make_task(TITLE, KIND, known, parts, {"score": score, "true": is_unusual})


def detection(ranked: Ranked, numbers: Sequence[int] = FALSE_POSITIVES) -> list[tuple[Metric, Statistic]]:
    """Return the recall at a few false positives, for scores with positives and negatives.

    References
    ----------
    .. [1] Metcalf et al. 2019, A&A 625, A119, arXiv:1802.03609: TPR0 and TPR10.
    """
    found: list[tuple[Metric, Statistic]] = []
    for number in numbers:
        text = f"Share of the positives whose score is above that of all but {number} of the negatives."
        label = f"recall at {number} false positives"
        metric = Metric(f"recall_{number}fp", label, "", HIGHER, text, (_METCALF,))
        found.append((metric, RecallAt(ranked, allowed=number)))
    return found


def truth_of(column: np.ndarray, positive: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which objects a column calls unusual, and of which it says anything; (R,), bool, each.

    Parameters
    ----------
    column : ndarray, shape (R,)
        Numbers, texts or truth values.
    positive : sequence of str
        Values that mean unusual; without any, numbers other than 0.
    """
    if column.dtype.kind in "biuf":
        known = np.isfinite(column.astype(np.float64))
        if not positive:
            return known & (column != 0), known
        texts = np.array([f"{value:g}" for value in np.where(known, column, 0).astype(np.float64)])
        words = {"true": "1", "false": "0"}
        named = [f"{float(text):g}" if _is_number(text) else words.get(text.lower(), text) for text in positive]
        return known & np.isin(texts, named), known
    texts = np.array([each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in column])
    texts = np.char.strip(texts)
    return np.isin(texts, list(positive)), texts != ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
