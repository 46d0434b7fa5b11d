"""Decision trees as plain arrays: growing them with scikit-learn, finding leaves, saving them. N objects, F inputs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import NODE_DTYPE
from sklearn.tree._tree import Tree as CompiledTree

LEAF = -1
"""Feature of a node that is a leaf."""


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


class Walker:
    """Finds leaves with the compiled code of scikit-learn, which gets the nodes in its own layout.

    Parameters
    ----------
    tree : Tree
    num_inputs : int
    """

    def __init__(self, tree: Tree, num_inputs: int) -> None:
        self._left = tree.left
        is_leaf, num = tree.feature == LEAF, len(tree.feature)
        nodes = np.zeros(num, dtype=NODE_DTYPE)
        nodes["left_child"] = np.where(is_leaf, -1, tree.left)
        nodes["right_child"] = np.where(is_leaf, -1, tree.right)
        nodes["feature"], nodes["threshold"] = tree.feature, tree.threshold
        nodes["missing_go_to_left"] = tree.missing_left
        self._tree = CompiledTree(num_inputs, np.ones(1, dtype=np.intp), 1)
        self._tree.__setstate__({"max_depth": 1, "node_count": num, "nodes": nodes, "values": np.zeros((num, 1, 1))})

    def leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Return the leaf of each object (N, F), shape (N,)."""
        return self._left[self._tree.apply(inputs)]


class Grove:
    """Some trees, one after the other.

    Parameters
    ----------
    trees : sequence of Tree
    """

    names = ("feature", "threshold", "left", "right", "missing_left")

    def __init__(self, trees: Sequence[Tree] = ()) -> None:
        self.trees = list(trees)
        self._walkers: list[Walker] | None = None

    def __len__(self) -> int:
        return len(self.trees)

    def add(self, tree: Tree) -> None:
        """Add a tree at the end."""
        self.trees.append(tree)
        self._walkers = None

    def leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Return the leaf of each object in each of T trees, counted over all trees, shape (N, T), int64.

        Parameters
        ----------
        inputs : ndarray, shape (N, F), float32
            NaN where a value is missing.
        """
        if self._walkers is None:
            self._walkers = [Walker(tree, inputs.shape[1]) for tree in self.trees]
        found, first = np.empty((len(inputs), len(self)), dtype=np.int64), 0
        for number, walker in enumerate(self._walkers):
            found[:, number] = first + walker.leaves(inputs)
            first += self.trees[number].num_leaves
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
