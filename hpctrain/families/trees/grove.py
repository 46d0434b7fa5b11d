"""Decision trees as plain arrays: growing them with scikit-learn, finding leaves, saving them. N objects, F inputs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeRegressor

LEAF = -1
"""Feature of a node that is a leaf."""

_BLOCK = 1 << 21
"""Largest number of pairs of object and tree that are followed at the same time."""


@dataclass(frozen=True)
class Tree:
    """One tree with M nodes, of which P are leaves.

    Parameters
    ----------
    feature : ndarray, shape (M,), int32
        Input that a node asks for; -1 is a leaf.
    threshold : ndarray, shape (M,), float64
        An object whose input is at most this goes left.
    left, right : ndarray, shape (M,), int32
        The next nodes; of a leaf, `left` is the number of the leaf.
    missing_left : ndarray, shape (M,), uint8
        Whether an object whose input is missing goes left.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray

    @property
    def num_leaves(self) -> int:
        """P."""
        return int((self.feature == LEAF).sum())


def plain(tree: DecisionTreeRegressor) -> Tree:
    """Return the nodes of a fitted tree of scikit-learn."""
    nodes = tree.tree_
    is_leaf = nodes.children_left == -1
    number = np.cumsum(is_leaf) - 1
    return Tree(
        np.where(is_leaf, LEAF, nodes.feature).astype(np.int32),
        np.where(is_leaf, 0.0, nodes.threshold).astype(np.float64),
        np.where(is_leaf, number, nodes.children_left).astype(np.int32),
        np.where(is_leaf, 0, nodes.children_right).astype(np.int32),
        np.where(is_leaf, 0, nodes.missing_go_to_left).astype(np.uint8),
    )


class Grove:
    """Some trees, one after the other.

    Parameters
    ----------
    trees : sequence of Tree
    """

    names = ("feature", "threshold", "left", "right", "missing_left")

    def __init__(self, trees: Sequence[Tree] = ()) -> None:
        self.trees = list(trees)
        self._packed: Packed | None = None

    def __len__(self) -> int:
        return len(self.trees)

    def add(self, tree: Tree) -> None:
        """Add a tree at the end."""
        self.trees.append(tree)
        self._packed = None

    @property
    def packed(self) -> Packed:
        """All trees in one array of nodes."""
        if self._packed is None:
            self._packed = Packed(self.trees)
        return self._packed

    def leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Return the leaf of each object in each of T trees, counted over all trees, shape (N, T), int64.

        Parameters
        ----------
        inputs : ndarray, shape (N, F), float32
            NaN where a value is missing.
        """
        found = np.empty((len(inputs), len(self)), dtype=np.int64)
        step = max(1, _BLOCK // max(1, len(self)))
        for start in range(0, len(inputs), step):
            found[start : start + step] = self.packed.leaves(inputs[start : start + step])
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Return the trees as plain arrays; `nodes` holds the number of nodes of each tree."""
        found = {"nodes": np.array([len(tree.feature) for tree in self.trees], dtype=np.int64)}
        for name, dtype in zip(self.names, (np.int32, np.float64, np.int32, np.int32, np.uint8), strict=True):
            found[name] = np.concatenate([np.zeros(0, dtype), *(getattr(tree, name) for tree in self.trees)])
        return found

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray], num_inputs: int) -> Grove:
        """Return the trees of a state.

        Raises
        ------
        ValueError
            The arrays are no trees for this number of inputs.
        """
        starts = np.cumsum([0, *state["nodes"].tolist()])
        arrays = {name: np.array(state[name]) for name in cls.names}
        if any(len(array) != starts[-1] for array in arrays.values()):
            raise ValueError("the arrays of the trees have different lengths")
        feature = arrays["feature"]
        size = np.repeat(np.diff(starts), np.diff(starts))
        inner = feature != LEAF
        nodes = np.arange(len(feature)) - np.repeat(starts[:-1], np.diff(starts))
        for name in ("left", "right"):  # a child comes after its parent, so that no path is endless
            if not ((arrays[name][inner] > nodes[inner]) & (arrays[name][inner] < size[inner])).all():
                raise ValueError("a node of a tree leads to no node")
        if len(feature) and not (-1 <= feature.min() <= feature.max() < num_inputs):
            raise ValueError("a tree asks for an input that there is not")
        pairs = itertools.pairwise(starts)
        return cls([Tree(*(arrays[name][begin:end] for name in cls.names)) for begin, end in pairs])


class Packed:
    """The nodes of T trees in one array, and the leaves counted over all of them."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        sizes = np.array([len(tree.feature) for tree in trees], dtype=np.int64)
        leaves = np.array([tree.num_leaves for tree in trees], dtype=np.int64)
        self.roots = np.cumsum(sizes) - sizes
        self.num_leaves = int(leaves.sum())
        self.feature = np.concatenate([np.zeros(0, np.int32), *(tree.feature for tree in trees)])
        self.threshold = np.concatenate([np.zeros(0), *(tree.threshold for tree in trees)])
        self.missing_left = np.concatenate([np.zeros(0, np.uint8), *(tree.missing_left for tree in trees)]).astype(bool)
        is_leaf = self.feature == LEAF
        first = np.where(is_leaf, np.repeat(np.cumsum(leaves) - leaves, sizes), np.repeat(self.roots, sizes))
        self.left = first + np.concatenate([np.zeros(0, np.int64), *(tree.left for tree in trees)])
        self.right = first + np.concatenate([np.zeros(0, np.int64), *(tree.right for tree in trees)])

    def leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Return the leaf of each object in each tree, shape (N, T)."""
        num, num_trees = len(inputs), len(self.roots)
        node = np.tile(self.roots, num)
        active = np.flatnonzero(self.feature[node] != LEAF)
        at = node[active]
        while len(active):
            value = inputs[active // num_trees, self.feature[at]]
            goes_left = np.where(np.isnan(value), self.missing_left[at], value <= self.threshold[at])
            at = np.where(goes_left, self.left[at], self.right[at])
            node[active] = at
            inner = self.feature[at] != LEAF
            active, at = active[inner], at[inner]
        return self.left[node].reshape(num, num_trees)
