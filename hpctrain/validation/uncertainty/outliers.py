"""The block ``outliers`` of ``validation.json``: how far held-out samples are from the training samples. n training
samples, m held-out samples, F numbers of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.families.labels.conformal import threshold
from hpctrain.validation.intervals import CONFIDENCE, wilson
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.sums import share
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.uncertainty.embed import embed_run
from hpctrain.validation.uncertainty.halves import one_row_per_object, second_half

NEIGHBOURS = "neighbours"
FALSE_ALARMS = 0.01
FEWEST = 100
"""Smallest number of samples on each side."""
NUM_NEIGHBOURS = 10
MOST_NUMBERS = 64
"""Largest number of principal components that distances are measured in."""
NUM_BINS = 10


@dataclass
class Detector:
    """Scores that are large for samples unlike the training samples.

    Numbers are divided by their robust scatter, and a missing one counts as the median. Many numbers are reduced to
    their principal components, of unit variance.

    Parameters
    ----------
    training : ndarray, shape (n, F)
    method : str
        ``neighbours``: distance to the tenth nearest training sample. ``mahalanobis``: distance from their mean in
        units of their covariance (Ledoit-Wolf).

    References
    ----------
    .. [1] Sun et al. 2022, Out-of-distribution detection with deep nearest neighbors, ICML, arXiv:2204.06507.
    .. [2] Ledoit & Wolf 2004, Journal of Multivariate Analysis 88, 365.
    """

    training: np.ndarray
    method: Literal["neighbours", "mahalanobis"] = NEIGHBOURS
    _middle: np.ndarray = field(init=False, repr=False)
    _scale: np.ndarray = field(init=False, repr=False)
    _reduce: Any = field(init=False, default=None, repr=False)
    _model: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from sklearn.covariance import LedoitWolf
        from sklearn.decomposition import PCA
        from sklearn.neighbors import NearestNeighbors

        known = self.training[np.isfinite(self.training).any(axis=1)]
        self._middle = np.nan_to_num(np.nanmedian(np.where(np.isfinite(known), known, np.nan), axis=0))
        apart = np.where(np.isfinite(known), known, self._middle) - self._middle
        scatter = 1.4826 * np.median(np.abs(apart), axis=0)
        spread = apart.std(axis=0)
        self._scale = np.where(scatter > 0, scatter, np.where(spread > 0, spread, 1.0))
        x = apart / self._scale
        if x.shape[1] > MOST_NUMBERS:
            self._reduce = PCA(MOST_NUMBERS, whiten=True, random_state=0).fit(x)
            x = self._reduce.transform(x)
        if self.method == NEIGHBOURS:
            self._model = NearestNeighbors(n_neighbors=min(NUM_NEIGHBOURS, len(x))).fit(x)
        else:
            self._model = LedoitWolf().fit(x)

    def scores(self, samples: np.ndarray) -> np.ndarray:
        """Return the scores of samples (m, F), as (m,); NaN for one without any number."""
        has = np.isfinite(samples)
        x = (np.where(has, samples, self._middle) - self._middle) / self._scale
        if self._reduce is not None:
            x = self._reduce.transform(x)
        if self.method == NEIGHBOURS:
            found = self._model.kneighbors(x)[0][:, -1]
        else:
            found = np.sqrt(self._model.mahalanobis(x))
        return np.where(has.any(axis=1), found, np.nan)


def add_outliers(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``outliers`` and its figures; nothing unless the profile asks for it.

    Parameters
    ----------
    judged : Judged
    section : optional
        Section ``validate`` of the profile, with ``uncertainty.outliers``.
    """
    asked = getattr(section, "uncertainty", None)
    method = getattr(asked, "outliers", None)
    if method is None:
        return {}
    vectors = embed_run(judged.run, judged.card, judged.row)
    if vectors is None:
        return {}
    training, held_out, chosen = vectors
    if min(len(training), len(held_out)) < FEWEST:
        return {}
    scores = np.full(len(judged), np.nan)
    scores[chosen] = Detector(training, method).scores(held_out)
    rate, confidence = asked.false_alarms, getattr(section, "confidence", CONFIDENCE)
    found = {"method": method, "num_training": len(training), **judge_scores(scores, judged, rate, confidence)}
    return {"outliers": found, "figures": _figures(found)}


def judge_scores(
    scores: np.ndarray, judged: Judged, rate: float = FALSE_ALARMS, confidence: float = CONFIDENCE
) -> dict[str, Any]:
    """Return the threshold of scores (R,), the false alarms that it raises, and the errors of the flagged samples.

    One half of the objects sets the threshold, the other half counts the false alarms, and then the other way round.
    The threshold of all is the conformal one: a new sample like these exceeds it with a probability of at most `rate`.

    References
    ----------
    .. [1] Bates et al. 2023, Testing for outliers with conformal p-values, Annals of Statistics 51, 149,
       arXiv:2104.08279.
    """
    rows = np.flatnonzero(np.isfinite(scores))
    second = second_half(judged.target_id)
    flagged = np.zeros(len(scores), dtype=bool)
    for fits in (second, ~second):
        limit = threshold(scores[one_row_per_object(judged.target_id, rows[fits[rows]])], rate)
        flagged[~fits] = scores[~fits] > limit
    known, target_id = np.ones(len(rows), dtype=bool), judged.target_id[rows]
    low, high = wilson(share(flagged[rows], known), known.astype(float), target_id, confidence)
    return {
        "false_alarms": rate,
        "threshold": threshold(scores[one_row_per_object(judged.target_id, rows)], rate),
        "flagged": {"share": float(flagged[rows].mean()), "low": low, "high": high, "n": len(np.unique(target_id))},
        "tasks": {
            task.title: errors_by_score(task, scores, flagged) for task in judged.tasks if _loss(task) is not None
        },
    }


def errors_by_score(task: Task, scores: np.ndarray, flagged: np.ndarray) -> dict[str, Any]:
    """Return the mean loss of flagged and of other samples, and in tenths of the score from low to high."""
    loss = _loss(task)
    assert loss is not None
    rows = np.flatnonzero(np.isfinite(scores) & np.isfinite(loss))
    parts = [part for part in np.array_split(rows[np.argsort(scores[rows], kind="stable")], NUM_BINS) if len(part)]
    own = loss[rows][flagged[rows]]
    return {
        "loss": "share wrong" if task.kind == CLASS else "mean absolute residual",
        "flagged": float(own.mean()) if len(own) else None,
        "others": float(loss[rows][~flagged[rows]].mean()) if (~flagged[rows]).any() else None,
        "score": [float(np.median(scores[part])) for part in parts],
        "by_score": [float(loss[part].mean()) for part in parts],
        "error_by_score": [float(loss[part].std() / np.sqrt(len(part))) for part in parts],
    }


def _loss(task: Task) -> np.ndarray | None:
    """Return what each row costs, NaN where it is not known; None for a task without one."""
    if task.kind == CLASS:
        wrong = task.arrays["true"] != task.arrays["predicted"]
        return np.where(task.known, wrong.astype(np.float64), np.nan)
    if "residual" in task.arrays:
        return np.where(task.known, np.abs(task.arrays["residual"]), np.nan)
    return None


def _figures(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    figures = []
    for title, each in found["tasks"].items():
        mean, error = np.array(each["by_score"]), np.array(each["error_by_score"])
        line = {"x": each["score"], "y": mean, "low": mean - error, "high": mean + error}
        caption = (
            "Tenths of the held-out samples by their distance from the training samples; band: standard errors. "
            f"{100 * found['flagged']['share']:.2g} % are beyond the threshold for {100 * found['false_alarms']:g} %."
        )
        axes = {"x": {"label": "distance from the training samples"}, "y": {"label": each["loss"], "low": 0.0}}
        figures.append(
            figure(f"{title}.outliers", "Error far from the training", "curve", {"lines": [line]}, caption, axes=axes)
        )
    return figures
