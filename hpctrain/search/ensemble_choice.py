"""Choose the members of an ensemble: greedy forward selection with replacement. M models, R predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_TINY = 1e-300
_CHUNK = 16
"""Models that are tried at a time, to bound the memory."""


def choose_members(log_p: np.ndarray, weight: np.ndarray, size: int) -> tuple[list[int], list[float]]:
    """Choose models whose mean probability has the lowest log loss.

    Each step adds the model with which the mean of all models so far is best; the same one may be added again, which
    gives it more weight. Of the `size` steps those up to the best one count, so the ensemble is never worse than the
    best single model on the predictions that choose it.

    Parameters
    ----------
    log_p : ndarray, shape (M, R), float64
        Log of the probability (density) that each model gave to the truth; finite.
    weight : ndarray, shape (R,), float64
        Weight of each prediction in the loss.
    size : int
        Largest number of steps, above 0.

    Returns
    -------
    chosen : list of int
        The model of each step. The first one is the best single model.
    losses : list of float
        Weighted mean of the log loss after each step, of all `size` steps [nat].

    References
    ----------
    .. [1] Caruana, Niculescu-Mizil, Crew & Ksikes 2004, Ensemble selection from libraries of models, ICML.
    """
    shift = log_p.max(axis=0)
    p = np.exp(log_p - shift)
    offset = float(weight @ shift)
    total, chosen, losses = np.zeros(p.shape[1]), [], []
    for step in range(1, size + 1):
        found = _losses(p, total, weight, step)
        best = int(np.argmin(found))
        total += p[best]
        chosen.append(best)
        losses.append((float(found[best]) - offset) / float(weight.sum()))
    return chosen[: int(np.argmin(losses)) + 1], losses


def _losses(p: np.ndarray, total: np.ndarray, weight: np.ndarray, step: int) -> np.ndarray:
    """Return the loss with each model added, (M,), not yet divided by the sum of the weights."""
    found = np.empty(len(p))
    for start in range(0, len(p), _CHUNK):
        mean = (total + p[start : start + _CHUNK]) / step
        found[start : start + _CHUNK] = -np.log(np.maximum(mean, _TINY)) @ weight
    return found


def weights_of(chosen: Sequence[int]) -> dict[int, float]:
    """Return the weight of each model that was chosen, the largest first; they sum to 1."""
    models, counts = np.unique(np.asarray(chosen), return_counts=True)
    order = np.lexsort((models, -counts))
    return {int(models[place]): float(counts[place] / len(chosen)) for place in order}


def mixed_log_p(log_p: np.ndarray, weights: dict[int, float]) -> np.ndarray:
    """Return the log of the weighted mean probability, shape (R, ...), of models (M, R, ...); NaN stays NaN."""
    parts = np.stack([log_p[model] + np.log(weight) for model, weight in weights.items()])
    known = np.isfinite(parts).all(axis=0)
    return np.where(known, np.logaddexp.reduce(np.where(known, parts, 0.0), axis=0), np.nan)
