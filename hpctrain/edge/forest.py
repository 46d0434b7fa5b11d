"""An isolation forest as plain arrays: it is fitted once on the training spectra, and numpy is enough to evaluate it.

``hpctrain encode`` fits a forest on the spectra it is given, so its scores depend on them. A bundle carries the forest
of its training spectra, so that a score on the device means the same for every file, and one spectrum is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_EULER = 0.5772156649015329


@dataclass(frozen=True)
class IsolationForest:
    """Trees with the same depth limit, as arrays with one row per tree.

    Parameters
    ----------
    feature : ndarray, shape (T, K), int32
        Index of the latent that each node compares; -1 at a leaf. There are T trees; the largest has K nodes.
    threshold : ndarray, shape (T, K), float64
        An object goes left where the latent is at most this value.
    left, right : ndarray, shape (T, K), int32
        Children of each node.
    path_length : ndarray, shape (T, K), float64
        At a leaf: its depth plus the expected further depth of the objects that end there.
    mean_path_length : float
        Expected depth over a whole tree; depths are divided by it.
    offset : float
        Value that is subtracted from a score, so that an anomaly is negative.

    References
    ----------
    .. [1] Liu, Ting & Zhou 2008, Isolation Forest, ICDM, doi:10.1109/ICDM.2008.17, eq. 1 and 2.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    path_length: np.ndarray
    mean_path_length: float
    offset: float

    @classmethod
    def fit(cls, latents: np.ndarray, seed: int, num_trees: int = 200) -> IsolationForest:
        """Fit scikit-learn's forest and copy its trees to arrays.

        Parameters
        ----------
        latents : ndarray, shape (N, S), float32
            Finite; two rows or more.
        seed : int
        num_trees : int
        """
        from sklearn.ensemble import IsolationForest as Forest

        forest = Forest(n_estimators=num_trees, random_state=seed % 2**32).fit(np.asarray(latents, np.float32))
        trees = [estimator.tree_ for estimator in forest.estimators_]
        size = max(tree.node_count for tree in trees)

        def table(name: str, dtype: str) -> np.ndarray:
            values = np.zeros((len(trees), size), dtype=dtype)
            for row, tree in zip(values, trees, strict=True):
                row[: tree.node_count] = getattr(tree, name)
            return values

        feature = np.where(table("children_left", "i4") < 0, -1, table("feature", "i4"))
        path_length = np.zeros((len(trees), size))
        for row, tree in zip(path_length, trees, strict=True):
            row[: tree.node_count] = _depths(tree) + _expected_depth(tree.n_node_samples)
        return cls(
            feature=feature.astype("i4"),
            threshold=table("threshold", "f8"),
            left=table("children_left", "i4"),
            right=table("children_right", "i4"),
            path_length=path_length,
            mean_path_length=float(_expected_depth(np.array([forest.max_samples_]))[0]),
            offset=float(forest.offset_),
        )

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> IsolationForest:
        """Read back what :meth:`to_arrays` returned."""
        values = {name.removeprefix("forest_"): value for name, value in arrays.items() if name.startswith("forest_")}
        scalars = {name: float(values.pop(name)) for name in ("mean_path_length", "offset")}
        return cls(**values, **scalars)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the forest as named arrays, for a file of them."""
        return {f"forest_{name}": np.asarray(value) for name, value in self.__dict__.items()}

    def score(self, latents: np.ndarray) -> np.ndarray:
        """Score objects as scikit-learn's ``decision_function`` does.

        Parameters
        ----------
        latents : ndarray, shape (N, S)

        Returns
        -------
        ndarray, shape (N,), float32
            Negative for an anomaly, and lower for a stronger one; NaN where a latent is not finite.
        """
        latents = np.asarray(latents, dtype=np.float32)
        finite = np.isfinite(latents).all(axis=1)
        scores = np.full(len(latents), np.nan, dtype=np.float32)
        if not finite.any():
            return scores
        known = latents[finite]
        tree = np.arange(len(self.feature))
        node = np.zeros((len(known), len(tree)), dtype=np.int64)
        while True:
            feature = self.feature[tree, node]
            inner = feature >= 0
            if not inner.any():
                break
            value = np.take_along_axis(known, np.maximum(feature, 0), axis=1)
            below = np.where(value <= self.threshold[tree, node], self.left[tree, node], self.right[tree, node])
            node = np.where(inner, below, node)
        depth = self.path_length[tree, node].mean(axis=1)
        scores[finite] = -(2.0 ** (-depth / self.mean_path_length)) - self.offset
        return scores


def _depths(tree: object) -> np.ndarray:
    """Return the depth of every node; the root has depth 0."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # parents come before their children
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth


def _expected_depth(num_objects: np.ndarray) -> np.ndarray:
    """Return the mean depth of an unsuccessful search in a tree of so many objects, which continues below a leaf."""
    number = np.asarray(num_objects, dtype=np.float64)
    several = 2.0 * (np.log(np.maximum(number - 1.0, 1.0)) + _EULER) - 2.0 * (number - 1.0) / np.maximum(number, 1.0)
    return np.where(number <= 1, 0.0, np.where(number == 2, 1.0, several))
