"""Gradient boosting for one label: each tree corrects the ones before. N objects, K outputs, P leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor

from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.head import Head
from hpctrain.families.trees.forest import gather, seeds_of
from hpctrain.families.trees.grove import Grove, Tree, Walker, plain
from hpctrain.families.trees.section import EXACT
from hpctrain.families.trees.targets import outputs_of, unit_of_value, value_outputs
from hpctrain.families.trees.task import Arrays, Task, merged, named, part_of

if TYPE_CHECKING:
    from hpctrain.families.trees.section import TreesSection

_LARGEST_STEP = 4.0
"""Largest value of a leaf before the learning rate, so that a leaf without doubt takes no endless step."""


class Boosted:
    """A sum of trees, (N, K): it starts from a constant.

    Parameters
    ----------
    num_outputs : int
        K.
    num_inputs : int
    first : ndarray, shape (K,), optional
        The constant.
    """

    def __init__(self, num_outputs: int, num_inputs: int, first: np.ndarray | None = None) -> None:
        self.num_outputs, self.num_inputs = num_outputs, num_inputs
        self.grove = Grove()
        self.first = np.zeros(num_outputs) if first is None else first
        self.values: list[np.ndarray] = []

    def sum(self, inputs: np.ndarray) -> np.ndarray:
        """Return the sum for new objects (N, F)."""
        if not self.values:
            return np.tile(self.first, (len(inputs), 1))
        return self.first + gather(self.grove.leaves(inputs), np.concatenate(self.values))

    def sum_in_order(self, inputs: np.ndarray) -> np.ndarray:
        """Return the sum for training objects, added tree by tree: the bits are those of a run that went on."""
        total = np.tile(self.first, (len(inputs), 1))
        for tree, values in zip(self.grove.trees, self.values, strict=True):
            total += values[Walker(tree, self.num_inputs).leaves(inputs)]
        return total

    def add(self, tree: Tree, values: np.ndarray) -> None:
        """Add a tree with these values (P, K) of its leaves."""
        self.grove.add(tree)
        self.values.append(values)

    def state(self) -> dict[str, np.ndarray]:
        """Return the trees as plain arrays."""
        values = np.concatenate([np.zeros((0, self.num_outputs)), *self.values])
        return {**self.grove.state(), "values": values, "first": self.first}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the trees of a state."""
        self.grove = Grove.of(state, self.num_inputs)
        ends = np.cumsum([0, *(tree.num_leaves for tree in self.grove.trees)])
        values = np.array(state["values"]).reshape(ends[-1], self.num_outputs)
        self.first = np.array(state["first"]).reshape(self.num_outputs)
        self.values = [values[begin:end] for begin, end in itertools.pairwise(ends)]


class Boosting:
    """The trees of one label: of a class a sum for each class; of a value one sum for the mean and one for the log of
    the variance.

    Parameters
    ----------
    section : TreesSection
    head : Head
    num_inputs : int

    References
    ----------
    .. [1] Friedman 2001, Greedy function approximation, Annals of Statistics 29, 1189; with the Newton steps of
       Friedman, Hastie & Tibshirani 2000, Annals of Statistics 28, 337; splits of histograms: Ke et al. 2017,
       LightGBM, NeurIPS 30.
    .. [2] Duan et al. 2020, NGBoost, arXiv:1910.03225: boosting of mean and variance.
    """

    def __init__(self, section: TreesSection, head: Head, num_inputs: int) -> None:
        self.section, self.head = section, head
        self.is_class = isinstance(head, ClassHead)
        sizes = [1, 1]
        if self.is_class:  # a tree of exact splits has all classes in its leaves, one of histograms has one
            sizes = [head.num_classes] if section.splits == EXACT else [1] * head.num_classes
        self.parts = [Boosted(size, num_inputs) for size in sizes]
        self._sums: list[np.ndarray] | None = None  # of the training objects

    num_pieces = 1
    """Each tree needs the ones before it, so a round of one label is one piece of work."""

    def grow(self, piece: int, task: Task) -> Arrays:
        """Return the trees of a round as plain arrays, and ``judged``: the sums (n, K) or (n, 2) of the judged objects,
        which the trees have seen."""
        if not len(self.parts[0].grove):
            self._begin(task.targets, task.weight)
            self._sums = None
        if self._sums is None:
            self._sums = [part.sum_in_order(task.inputs) for part in self.parts]
        new = [Boosted(part.num_outputs, part.num_inputs, part.first) for part in self.parts]
        known = np.flatnonzero(task.weight > 0)
        size = max(1, round(self.section.sample * len(known)))
        for source in seeds_of(task.seed, self.section.trees_per_round):
            rng = np.random.default_rng(source)
            rows = known if size == len(known) else np.sort(rng.choice(known, size, replace=False))
            for number, (slope, curvature) in enumerate(self._steps(task.targets)):
                self._sums[number] += self._grow_one(new[number], task, slope, curvature, rows, rng)
        judged = np.concatenate([total[task.judged] for total in self._sums], axis=1)
        return {"judged": judged, **merged(named(str(n), part.state()) for n, part in enumerate(new))}

    def add(self, pieces: Sequence[Arrays], task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Add the trees of a round; return what :meth:`outputs` reads for the judged objects, and that all have it."""
        [piece] = pieces
        for number, part in enumerate(self.parts):
            new = Boosted(part.num_outputs, part.num_inputs)
            new.load(part_of(piece, str(number)))
            part.first = new.first
            for tree, values in zip(new.grove.trees, new.values, strict=True):
                part.add(tree, values)
        return piece["judged"], np.ones(len(task.judged), dtype=bool)

    def _begin(self, targets: np.ndarray, weight: np.ndarray) -> None:
        mean = weight @ targets / weight.sum()
        if self.is_class:
            for part, first in zip(self.parts, np.split(mean, len(self.parts)), strict=True):
                part.first = np.log(np.maximum(first, 1e-6))
            return
        self.parts[0].first = mean
        self.parts[1].first = np.log(np.maximum(weight @ np.square(targets - mean) / weight.sum(), 1e-6))

    def _steps(self, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each part minus the slope of the loss and its curvature at the sums of the training objects, (N, K)
        each. The trees of all classes start from the same sums; that of a variance from the new mean."""
        assert self._sums is not None
        if self.is_class:
            p = softmax(np.concatenate(self._sums, axis=1), axis=1)
            curvature = np.maximum(p * (1 - p), 1e-9) * p.shape[1] / max(1, p.shape[1] - 1)
            yield from zip(*(np.split(each, len(self.parts), axis=1) for each in (targets - p, curvature)), strict=True)
            return
        for number in range(2):
            apart = targets - self._sums[0]
            precision = np.exp(-np.clip(self._sums[1], -12, 12))
            if number == 0:
                yield apart * precision, precision
            else:
                yield np.square(apart) * precision - 1, np.ones_like(apart)

    def _grow_one(
        self,
        part: Boosted,
        task: Task,
        slope: np.ndarray,
        curvature: np.ndarray,
        rows: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Grow one tree and return what it adds to the sums of the training objects, (N, K)."""
        if task.binned is not None:
            own = task.weight
            nodes, leaf = task.binned.grow(
                rows, own * slope[:, 0], own * curvature[:, 0], self.section, rng, task.threads
            )
        else:
            nodes, leaf = self._exact(task, slope, curvature, rows, rng)
        here, own = leaf[rows], task.weight[rows]
        values = np.empty((nodes.num_leaves, part.num_outputs))
        for number in range(part.num_outputs):
            total = np.bincount(here, own * slope[rows, number], nodes.num_leaves)
            values[:, number] = total / np.bincount(here, own * curvature[rows, number], nodes.num_leaves)
        values = self.section.learning_rate * np.clip(values, -_LARGEST_STEP, _LARGEST_STEP)
        part.add(nodes, values)
        return values[leaf]

    def _exact(
        self, task: Task, slope: np.ndarray, curvature: np.ndarray, rows: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tree, np.ndarray]:
        """Return a tree that tries all thresholds, and the leaf of each training object, (N,)."""
        if slope.shape[1] == 1:  # a weighted mean of these targets is the Newton step
            targets, own = slope / curvature, task.weight * curvature[:, 0]
        else:
            targets, own = slope, task.weight
        tree = DecisionTreeRegressor(
            min_samples_leaf=self.section.min_leaf,
            max_depth=self.section.depth,
            max_features=self.section.features_per_split,
            random_state=int(rng.integers(2**31)),
        ).fit(task.inputs[rows], targets[rows], sample_weight=own[rows])
        nodes = plain(tree)
        return nodes, nodes.left[tree.apply(task.inputs)]

    def mean(self, inputs: np.ndarray) -> np.ndarray:
        """Return the sums for new objects, (N, K) or (N, 2)."""
        return np.concatenate([part.sum(inputs) for part in self.parts], axis=1)

    def outputs(self, sums: np.ndarray) -> Tensor:
        """Return the outputs of the head for the sums."""
        if self.is_class:
            return outputs_of(self.head, softmax(sums, axis=1))
        return value_outputs(sums[:, 0], sums[:, 1])

    def explained(self) -> tuple[list[tuple[Tree, np.ndarray]], str]:
        """Return trees whose sum is the mean or the log-odds, with the values (P, K) of their leaves, and the unit."""
        if not self.is_class:
            scale = self.head.label.scale or 1.0
            [mean, _] = self.parts
            found = [(tree, values * scale) for tree, values in zip(mean.grove.trees, mean.values, strict=True)]
            return found, unit_of_value(self.head)
        num = self.head.num_classes
        places = np.split(np.eye(num), len(self.parts))
        return [
            (tree, values @ place)
            for part, place in zip(self.parts, places, strict=True)
            for tree, values in zip(part.grove.trees, part.values, strict=True)
        ], "log-odds"

    def state(self) -> dict[str, np.ndarray]:
        """Return the trees as plain arrays."""
        return merged(named(str(number), part.state()) for number, part in enumerate(self.parts))

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the trees of a state."""
        for number, part in enumerate(self.parts):
            part.load(part_of(state, str(number)))
        self._sums = None
