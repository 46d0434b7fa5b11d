"""How unusual an object is, from its place among the latents."""

from __future__ import annotations

import numpy as np

MIN_OBJECTS = 2
"""A forest needs something to separate an object from."""


def isolation_scores(latents: np.ndarray, seed: int, num_trees: int = 200) -> np.ndarray:
    """Score objects by how few random cuts isolate them.

    Parameters
    ----------
    latents : ndarray, shape (N, S), float32
        Latent means; rows that are not finite (rejected spectra) are left out of the forest.
    seed : int
        Of the forest: the same latents and seed give the same scores.
    num_trees : int
        Trees of the forest.

    Returns
    -------
    ndarray, shape (N,), float32
        scikit-learn's ``decision_function``: negative for an anomaly, the more the stranger; NaN in rows that are
        not finite, or all rows when fewer than two are left.

    References
    ----------
    .. [1] Liu, Ting & Zhou 2008, Isolation Forest, ICDM, doi:10.1109/ICDM.2008.17. A score near 0 is as isolated as
       expected of a random point; it depends on the other objects scored with it.
    """
    latents = np.asarray(latents, dtype=np.float32)
    scores = np.full(len(latents), np.nan, dtype=np.float32)
    finite = np.isfinite(latents).all(axis=1)
    if finite.sum() < MIN_OBJECTS:
        return scores
    from sklearn.ensemble import IsolationForest  # half a second to import, and only needed here

    forest = IsolationForest(n_estimators=num_trees, random_state=seed % 2**32)
    scores[finite] = forest.fit(latents[finite]).decision_function(latents[finite])
    return scores
