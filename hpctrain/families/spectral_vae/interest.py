"""Rank unusual objects by what a person found interesting: active learning on ratings from 0 to 5. No torch here.

N objects, F features, R rated objects, S latents.
"""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = 0, 5
"""Ratings of interest: not at all, and most."""

MOST_SCORE = 6.0
"""Higher scores count as this one: chances below one in a million are extrapolated, and taste shall decide."""

_FLOOR, _SLOPE = 0.1, 0.85
"""An object without interest keeps a tenth of its score; 0.95 of it is the most, so that arctanh stays finite."""
_TREES = 100


def features_of(latents: np.ndarray, local_chi2: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return what the interest is predicted from: latents and both parts of the score, each with unit spread.

    Parameters
    ----------
    latents : ndarray, shape (N, S)
    local_chi2, density : ndarray, shape (N,)
        ``LOCAL_CHI2`` and ``LATENT_DENSITY``. arcsinh keeps the former from outweighing all others.

    Returns
    -------
    ndarray, shape (N, S + 2), float64
    """
    columns = np.column_stack([latents, np.arcsinh(local_chi2), np.arcsinh(density)]).astype(np.float64)
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def rerank(
    score: np.ndarray, features: np.ndarray, rated: np.ndarray, interest: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Predict how interesting each object is, and multiply the scores by it where the prediction can be trusted.

    Near rated objects the score is multiplied by their interest; far from all of them it stays as it is.

    Parameters
    ----------
    score : ndarray, shape (N,)
        Anomaly scores, 0 or larger.
    features : ndarray, shape (N, F)
        Finite.
    rated : ndarray of int, shape (R,)
        Rows of the rated objects; at least one.
    interest : ndarray, shape (R,)
        Their ratings, from `LOWEST` to `HIGHEST`.
    seed : int
        Seed of the forest.

    Returns
    -------
    predicted : ndarray, shape (N,)
        Interest from 0 to 5: that of a regression forest, and the rating itself where there is one.
    priority : ndarray, shape (N,)
        The new score.

    References
    ----------
    .. [1] Lochner & Bassett 2021, Astronomy and Computing 36, 100481, arXiv:2010.11202, eq. 1: the score times
       tanh(delta - 1 + arctanh(u)), where u = 0.1 + 0.85 (interest / 5) and delta = exp(distance to the nearest rated
       object / mean of this distance).
    """
    from scipy.spatial import cKDTree
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, random_state=seed % 2**32).fit(features[rated], interest)
    predicted = forest.predict(features)
    predicted[rated] = interest
    distance = cKDTree(features[rated]).query(features)[0]
    mean = distance.mean()
    delta = np.exp(distance / mean) if mean > 0 else np.ones(len(distance))
    liking = _FLOOR + _SLOPE * predicted / HIGHEST
    return predicted, np.minimum(score, MOST_SCORE) * np.tanh(delta - 1.0 + np.arctanh(liking))
