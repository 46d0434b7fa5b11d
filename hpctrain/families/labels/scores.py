"""Numbers that say how good predicted labels are. N samples. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

OUTLIER_SCATTERS = 5.0
"""Residuals beyond so many robust scatters are outliers, where no other limit is given."""


def nmad(residual: np.ndarray) -> float:
    """Return the normalised median absolute deviation, which is the standard deviation of a normal distribution.

    Parameters
    ----------
    residual : ndarray, shape (N,)
        Predicted minus true values; for redshifts divided by 1 + z.

    References
    ----------
    .. [1] Brammer, van Dokkum & Coppi 2008, ApJ 686, 1503, arXiv:0807.1533, eq. 5.
    """
    return 1.4826 * float(np.median(np.abs(residual - np.median(residual))))


def value_scores(residual: np.ndarray, outlier: float | None = None) -> dict[str, float]:
    """Return bias (median), scatter (NMAD), root mean square and share of outliers of residuals (N,), N above 0."""
    scatter = nmad(residual)
    limit = OUTLIER_SCATTERS * scatter if outlier is None else outlier
    return {
        "bias": float(np.median(residual)),
        "nmad": scatter,
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "mae": float(np.mean(np.abs(residual))),
        "outliers": float(np.mean(np.abs(residual) > limit)),
    }


def class_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-averaged F1 over the true classes, and the mean recall, of texts or numbers (N,)."""
    f1, recall = [], []
    for name in np.unique(true):
        here, there = predicted == name, true == name
        both = np.count_nonzero(here & there)
        f1.append(2 * both / (np.count_nonzero(here) + np.count_nonzero(there)))
        recall.append(both / np.count_nonzero(there))
    return {
        "accuracy": float(np.mean(predicted == true)),
        "macro_f1": float(np.mean(f1)),
        "balanced_accuracy": float(np.mean(recall)),
    }


def confusion(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each class was predicted for each true class.

    Parameters
    ----------
    predicted, true : ndarray, shape (N,)

    Returns
    -------
    names : ndarray, shape (C,)
        All classes that occur, the most common true ones first.
    counts : ndarray, shape (C, C), int64
        True classes along the first axis.
    """
    names = np.unique(np.concatenate([predicted, true]))
    common = np.array([np.count_nonzero(true == name) for name in names])
    names = names[np.argsort(-common, kind="stable")]
    counts = np.array([[np.count_nonzero((true == t) & (predicted == p)) for p in names] for t in names])
    return names, counts.reshape(len(names), len(names)).astype(np.int64)


def pit_flatness(pit: np.ndarray) -> float:
    """Return the largest distance of the distribution of PIT values (N,) from a uniform one (Kolmogorov-Smirnov)."""
    ordered = np.sort(pit)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def calibration_error(probability: np.ndarray, is_right: np.ndarray, num_bins: int = 15) -> float:
    """Return the expected calibration error: the mean distance of the probability of the predicted class from accuracy.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Probability that the model gave to the class that it predicted.
    is_right : ndarray, shape (N,), bool
    num_bins : int
        Bins with equal numbers of samples.

    References
    ----------
    .. [1] Guo et al. 2017, On calibration of modern neural networks, ICML, arXiv:1706.04599.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    apart = [len(part) * abs(probability[part].mean() - is_right[part].mean()) for part in parts]
    return float(sum(apart) / max(len(order), 1))


def scores_of(columns: Mapping[str, np.ndarray], title: str) -> dict[str, float]:
    """Return the scores of one label from the columns of a table of predictions with labels; empty without labels.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (N, ...)
        As in ``results/predictions.h5``.
    title : str
        Beginning of the names of the columns.
    """
    true, predicted = columns[f"{title}_TRUE"], columns[f"{title}_PRED"]
    if true.dtype.kind in "SUO":
        known = (true != true.dtype.type()) & (predicted != predicted.dtype.type())
        if not known.any():
            return {}
        found = class_scores(predicted[known], true[known])
        return {**found, "log_loss": float(np.mean(columns[f"{title}_LOG_LOSS"][known])), "num": int(known.sum())}
    residual = columns[f"{title}_RESIDUAL"]
    known = np.isfinite(residual)
    if not known.any():
        return {}
    found = value_scores(residual[known].astype(np.float64))
    for name, score in (("OUTLIER", "outliers"), ("CRPS", "crps")):
        if f"{title}_{name}" in columns:
            found[score] = float(np.mean(columns[f"{title}_{name}"][known]))
    return {**found, "num": int(known.sum())}
