"""Anomaly scores: how unusual the latent vector of an object is."""

from __future__ import annotations

import numpy as np

MIN_OBJECTS = 2
"""Smallest number of objects for an Isolation Forest."""


def isolation_scores(latents: np.ndarray, seed: int, num_trees: int = 200) -> np.ndarray:
    """Score objects by the number of random cuts that isolate them.

    Parameters
    ----------
    latents : ndarray, shape (N, S), float32
        Latent means; the forest ignores rows that are not finite (rejected spectra).
    seed : int
        Seed of the forest; the same latents and seed give the same scores.
    num_trees : int
        Number of trees in the forest.

    Returns
    -------
    ndarray, shape (N,), float32
        scikit-learn's ``decision_function``: negative for an anomaly, lower for a more unusual object; NaN in rows that
        are not finite, or in all rows if fewer than two are finite.

    References
    ----------
    .. [1] Liu, Ting & Zhou 2008, Isolation Forest, ICDM, doi:10.1109/ICDM.2008.17. An object with a score near 0 is as
       isolated as a random point. The score of an object depends on the other objects.
    """
    latents = np.asarray(latents, dtype=np.float32)
    scores = np.full(len(latents), np.nan, dtype=np.float32)
    finite = np.isfinite(latents).all(axis=1)
    if finite.sum() < MIN_OBJECTS:
        return scores
    from sklearn.ensemble import IsolationForest  # the import takes half a second, and only this function needs it

    forest = IsolationForest(n_estimators=num_trees, random_state=seed % 2**32)
    scores[finite] = forest.fit(latents[finite]).decision_function(latents[finite])
    return scores
