"""A random forest for one label: independent trees whose leaves hold labels. N objects, K numbers, B bins, P leaves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor

from hpctrain.families.labels.head import Head
from hpctrain.families.trees.grove import Grove, Tree, plain
from hpctrain.families.trees.targets import (
    SmoothedDensityHead,
    explained_leaves,
    leaf_values,
    num_leaf_values,
    outputs_of,
)
from hpctrain.families.trees.task import Arrays, Task

if TYPE_CHECKING:
    from hpctrain.families.trees.section import TreesSection


def gather(leaves: np.ndarray, values: np.ndarray | csr_array) -> np.ndarray:
    """Return the sum over T trees of the values (P, K) of the leaves (N, T) of each object, (N, K), float64."""
    num, num_trees = leaves.shape
    starts = np.arange(0, num * num_trees + 1, num_trees)
    found = csr_array((np.ones(leaves.size), leaves.ravel(), starts), shape=(num, values.shape[0])) @ values
    return found if isinstance(found, np.ndarray) else found.toarray()


def seeds_of(seed: int, count: int) -> list[np.random.SeedSequence]:
    """Return a source of random numbers for each tree of a round, which depends on nothing but round and tree."""
    return [np.random.SeedSequence([seed, number]) for number in range(count)]


class Forest:
    """The trees of one label. A density keeps the labels of the objects of each leaf, as bins of its grid.

    Parameters
    ----------
    section : TreesSection
    head : Head
    num_inputs : int

    References
    ----------
    .. [1] Breiman 2001, Random forests, Machine Learning 45, 5.
    .. [2] Meinshausen 2006, Quantile regression forests, JMLR 7, 983: the labels in the leaves as a distribution.
    """

    def __init__(self, section: TreesSection, head: Head, num_inputs: int) -> None:
        self.section, self.head, self.num_inputs = section, head, num_inputs
        self.is_density = isinstance(head, SmoothedDensityHead)
        self.grove = Grove()
        self._leaves: list[np.ndarray | csr_array] = []  # of each tree, (P, K) or (P, B)
        self._all: np.ndarray | csr_array | None = None

    @property
    def num_pieces(self) -> int:
        """Number of pieces of work in a round that need not wait for each other: its trees."""
        return self.section.trees_per_round

    def grow(self, piece: int, task: Task) -> Arrays:
        """Return one tree of a round as plain arrays: its nodes, what its leaves hold, and the judged objects `unseen`,
        (n,), bool, that it was not grown from."""
        source = seeds_of(task.seed, self.section.trees_per_round)[piece]
        nodes, leaves, count = self._grow_one(task.inputs, task.targets, task.weight, source)
        return {**Grove([nodes]).state(), **self._leaf_state([leaves]), "unseen": count[task.judged] == 0}

    def add(self, pieces: Sequence[Arrays], task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Add all trees of a round, and predict the judged objects with those that have not seen them.

        Returns
        -------
        mean : ndarray, shape (n, K) or (n, B)
            Mean of their leaves.
        has : ndarray, shape (n,), bool
            Whether a new tree has not seen the object.
        """
        total = np.zeros((len(task.judged), self.head.label.bins if self.is_density else num_leaf_values(self.head)))
        counts = np.zeros(len(task.judged))
        for piece in pieces:
            [tree] = Grove.of(piece, self.num_inputs).trees
            [leaves] = self._leaves_of(piece, [tree])
            self.grove.add(tree)
            self._leaves.append(leaves)
            unseen = np.flatnonzero(piece["unseen"])
            if len(unseen):
                total[unseen] += gather(Grove([tree]).leaves(task.inputs[task.judged[unseen]]), leaves)
                counts[unseen] += 1
        self._all = None
        return total / np.maximum(counts, 1)[:, None], counts > 0

    def _grow_one(
        self, inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray, source: np.random.SeedSequence
    ) -> tuple[Tree, np.ndarray | csr_array, np.ndarray]:
        """Return a tree, what its leaves hold, and how often each object was drawn, (N,)."""
        rng = np.random.default_rng(source)
        known = np.flatnonzero(weight > 0)
        drawn = known[rng.integers(len(known), size=max(1, round(self.section.sample * len(known))))]
        count = np.bincount(drawn, minlength=len(weight))
        rows = np.flatnonzero(count)
        own = count[rows] * weight[rows]
        tree = DecisionTreeRegressor(
            min_samples_leaf=self.section.min_leaf,
            max_depth=self.section.depth,
            max_features=self.section.features_per_split,
            random_state=int(rng.integers(2**31)),
        ).fit(inputs[rows], targets[rows], sample_weight=own)
        nodes = plain(tree)
        leaf = nodes.left[tree.apply(inputs[rows])]
        total = np.bincount(leaf, own, nodes.num_leaves)
        share = own / total[leaf]
        if self.is_density:
            bins = np.clip(targets[rows, 0], 0, self.head.label.bins - 1).astype(np.int64)
            return nodes, csr_array((share, (leaf, bins)), shape=(nodes.num_leaves, self.head.label.bins)), count
        values = leaf_values(self.head, targets[rows])
        means = [np.bincount(leaf, share * column, nodes.num_leaves) for column in values.T]
        return nodes, np.stack(means, axis=1), count

    def outputs(self, mean: np.ndarray) -> Tensor:
        """Return the outputs of the head for a mean of leaves."""
        return outputs_of(self.head, mean)

    def mean(self, inputs: np.ndarray) -> np.ndarray:
        """Return the mean over all trees of what the leaves of each object hold, (N, K) or (N, B)."""
        if self._all is None:
            self._all = _stacked(self._leaves) if self.is_density else np.concatenate(self._leaves)
        return gather(self.grove.leaves(inputs), self._all) / len(self.grove)

    def explained(self) -> tuple[list[tuple[Tree, np.ndarray]], str]:
        """Return trees whose sum is what the forest says, with the values (P, K) of their leaves, and the unit."""
        leaves, unit = explained_leaves(self.head, self._leaves)
        share = 1.0 / max(1, len(self.grove))
        return [(tree, values * share) for tree, values in zip(self.grove.trees, leaves, strict=True)], unit

    def state(self) -> Arrays:
        """Return the trees and their leaves as plain arrays."""
        return {**self.grove.state(), **self._leaf_state(self._leaves)}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the trees of a state."""
        self.grove = Grove.of(state, self.num_inputs)
        self._leaves, self._all = self._leaves_of(state, self.grove.trees), None

    def _leaf_state(self, leaves: Sequence[np.ndarray | csr_array]) -> Arrays:
        """Return what the leaves of some trees hold as plain arrays."""
        if not self.is_density:
            return {"values": np.concatenate([np.zeros((0, num_leaf_values(self.head))), *leaves])}
        count = np.concatenate([np.zeros(0), *(np.diff(part.indptr) for part in leaves)]).astype(np.int32)
        bins = np.concatenate([np.zeros(0), *(part.indices for part in leaves)]).astype(np.int32)
        share = np.concatenate([np.zeros(0), *(part.data for part in leaves)])
        return {"member_count": count, "member_bin": bins, "member_share": share}

    def _leaves_of(self, state: Mapping[str, np.ndarray], trees: Sequence[Tree]) -> list[np.ndarray | csr_array]:
        """Return what the leaves of these trees hold, one array for each."""
        ends = np.cumsum([0, *(tree.num_leaves for tree in trees)])
        pairs = list(itertools.pairwise(ends))
        if not self.is_density:
            values = np.array(state["values"]).reshape(ends[-1], num_leaf_values(self.head))
            return [values[begin:end] for begin, end in pairs]
        starts = np.cumsum([0, *state["member_count"].tolist()])
        bins, share = np.array(state["member_bin"]), np.array(state["member_share"])
        found = []
        for begin, end in pairs:
            own = slice(starts[begin], starts[end])
            shape = (end - begin, self.head.label.bins)
            found.append(csr_array((share[own], bins[own], starts[begin : end + 1] - starts[begin]), shape=shape))
        return found


def _stacked(parts: list[csr_array]) -> csr_array:
    """Return the rows of several sparse arrays, one after the other."""
    starts = np.cumsum([0, *(part.nnz for part in parts)])
    pointers = [part.indptr[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
    indptr = np.concatenate([np.zeros(1, np.int64), *pointers])
    data, indices = (np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "indices"))
    return csr_array((data, indices, indptr), shape=(len(indptr) - 1, parts[0].shape[1]))
