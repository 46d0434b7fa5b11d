"""Weights that give held-out objects the distribution of another population. R objects, T of the target, F columns."""

from __future__ import annotations

from typing import Literal

import numpy as np

NEIGHBOURS, CLASSIFIER = "neighbours", "classifier"
NUM_NEIGHBOURS = 20
_FOLDS = 5


def density_ratio(
    objects: np.ndarray, target: np.ndarray, method: Literal["neighbours", "classifier"] = NEIGHBOURS
) -> np.ndarray:
    """Return the density of the target population over that of the objects, at each object; the mean is 1.

    Parameters
    ----------
    objects : ndarray, shape (R, F)
        Finite numbers. Columns are divided by their robust scatter among the objects.
    target : ndarray, shape (T, F)
    method : str
        ``neighbours``: the number of target objects within the distance of the 20th nearest object. ``classifier``: the
        odds of a gradient boosting that tells both apart, which predicts objects that it has not seen.

    Returns
    -------
    ndarray, shape (R,)
        All 0 if the target population is nowhere near.

    References
    ----------
    .. [1] Lima et al. 2008, MNRAS 390, 118, arXiv:0801.3822: nearest neighbours.
    .. [2] Bickel, Brückner & Scheffer 2009, Journal of Machine Learning Research 10, 2137: a classifier.
    """
    middle = np.median(objects, axis=0)
    scatter = 1.4826 * np.median(np.abs(objects - middle), axis=0)
    spread = objects.std(axis=0)
    scale = np.where(scatter > 0, scatter, np.where(spread > 0, spread, 1.0))
    own, other = (objects - middle) / scale, (target - middle) / scale
    found = _by_neighbours(own, other) if method == NEIGHBOURS else _by_classifier(own, other)
    mean = float(found.mean())
    return found / mean if mean > 0 else found


def _by_neighbours(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    number = min(NUM_NEIGHBOURS, len(own) - 1)
    reach = cKDTree(own).query(own, number + 1)[0][:, -1]  # the nearest one is the object itself
    return cKDTree(other).query_ball_point(own, reach, return_length=True).astype(np.float64)


def _by_classifier(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_predict

    x = np.concatenate([own, other])
    is_target = np.repeat([0, 1], [len(own), len(other)])
    model = HistGradientBoostingClassifier(max_depth=4, learning_rate=0.05, random_state=0)
    p = cross_val_predict(model, x, is_target, cv=_FOLDS, method="predict_proba")[: len(own), 1]
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return p / (1 - p) * len(own) / len(other)


def effective_size(weights: np.ndarray) -> float:
    """Return the number of equally weighted objects that say as much as these, from weights (R,).

    References
    ----------
    .. [1] Kish 1965, Survey Sampling, Wiley, sect. 8.2.
    """
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0
