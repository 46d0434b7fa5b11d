"""Trees whose splits lie between 255 intervals of each input, grown by scikit-learn. N objects, F inputs, B bins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

# The part of HistGradientBoosting that grows one tree; it stores nothing, so each tree depends on its arguments alone.
from sklearn.ensemble._hist_gradient_boosting.grower import TreeGrower, TreeNode

from hpctrain.families.trees.grove import LEAF, Tree, Walker

if TYPE_CHECKING:
    from hpctrain.families.trees.section import TreesSection

MOST_BINS = 255
"""Intervals of an input; one more number of a byte stands for a missing value."""

MOST_SORTED = 200_000
"""Largest number of training objects, evenly spread, from which the borders of the intervals are computed."""


def borders_of(column: np.ndarray) -> np.ndarray:
    """Return the values that separate the intervals of an input, (B - 1,), float64: in each about as many objects.

    Where there are few different values, each has an interval of its own.
    """
    known = column[np.linspace(0, len(column) - 1, min(len(column), MOST_SORTED)).astype(np.int64)].astype(np.float64)
    known = np.sort(known[np.isfinite(known)])
    values = np.unique(known)
    if len(values) <= MOST_BINS:
        return (values[1:] + values[:-1]) / 2
    return np.unique(np.quantile(known, np.linspace(0, 1, MOST_BINS + 1)[1:-1], method="midpoint"))


class Binned:
    """The training objects with a byte for each input.

    Parameters
    ----------
    inputs : ndarray, shape (N, F), float32
        NaN where a value is missing.
    """

    def __init__(self, inputs: np.ndarray) -> None:
        self.inputs = inputs
        self.borders = [borders_of(column) for column in inputs.T]
        self.num_bins = np.array([len(borders) + 1 for borders in self.borders], dtype=np.uint32)
        self.codes = np.empty(inputs.shape, dtype=np.uint8, order="F")
        self.has_missing = np.empty(inputs.shape[1], dtype=np.uint8)
        for number, (column, borders) in enumerate(zip(inputs.T, self.borders, strict=True)):
            missing = np.isnan(column)
            self.has_missing[number] = missing.any()
            self.codes[:, number] = np.where(missing, MOST_BINS, np.searchsorted(borders, column.astype(np.float64)))
        self._of_rows: tuple[np.ndarray, np.ndarray] | None = None

    def grow(
        self,
        rows: np.ndarray,
        slope: np.ndarray,
        curvature: np.ndarray,
        section: TreesSection,
        rng: np.random.Generator,
        threads: int,
    ) -> tuple[Tree, np.ndarray]:
        """Return a tree, and the leaf of each training object, (N,), int64.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Objects from which it is grown, sorted.
        slope, curvature : ndarray, shape (N,)
            Of the loss of each object: minus the first derivative, and the second one.
        section : TreesSection
        rng : Generator
        threads : int
            They change no bit.
        """
        grower = TreeGrower(
            self._codes_of(rows),
            -slope[rows].astype(np.float32),
            curvature[rows].astype(np.float32),
            max_depth=section.depth,
            min_samples_leaf=section.min_leaf,
            n_bins=MOST_BINS + 1,
            n_bins_non_missing=self.num_bins,
            has_missing_values=self.has_missing,
            feature_fraction_per_split=section.features_per_split,
            rng=rng,
            n_threads=threads,
        )
        grower.grow()
        tree, members = self._plain(grower.root)
        leaf = np.full(len(self.inputs), LEAF, dtype=np.int64)
        for number, own in enumerate(members):
            leaf[rows[own]] = number
        others = np.flatnonzero(leaf == LEAF)
        if len(others):
            leaf[others] = Walker(tree, self.inputs.shape[1]).leaves(self.inputs[others])
        return tree, leaf

    def _codes_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the bytes of some objects, (n, F); those of the last ones are kept."""
        if len(rows) == len(self.codes):
            return self.codes
        if self._of_rows is None or self._of_rows[0] is not rows:
            self._of_rows = rows, np.asfortranarray(self.codes[rows])
        return self._of_rows[1]

    def _plain(self, root: TreeNode) -> tuple[Tree, list[np.ndarray]]:
        """Return the nodes as plain arrays, each before its children, and the objects of each leaf."""
        feature, threshold, left, right, missing_left = [], [], [], [], []
        members: list[np.ndarray] = []
        stack = [(root, left, -1)]  # a node, and where its number is noted
        while stack:
            node, noted, place = stack.pop()
            number = len(feature)
            if place >= 0:
                noted[place] = number
            split = None if node.is_leaf else node.split_info
            feature.append(LEAF if split is None else split.feature_idx)
            threshold.append(0.0 if split is None else self._threshold(split.feature_idx, split.bin_idx))
            missing_left.append(0 if split is None else split.missing_go_to_left)
            left.append(len(members) if split is None else 0)
            right.append(0)
            if split is None:
                members.append(node.sample_indices)
            else:
                stack += [(node.right_child, right, number), (node.left_child, left, number)]
        tree = Tree(
            np.array(feature, dtype=np.int32),
            np.array(threshold, dtype=np.float64),
            np.array(left, dtype=np.int32),
            np.array(right, dtype=np.int32),
            np.array(missing_left, dtype=np.uint8),
        )
        return tree, members

    def _threshold(self, feature: int, interval: int) -> float:
        """Return the largest value that goes left; after the last interval only missing values are left."""
        borders = self.borders[feature]
        return float(borders[interval]) if interval < len(borders) else np.inf
