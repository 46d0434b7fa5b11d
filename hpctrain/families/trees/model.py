"""The model of ``model.family: trees``, which learns in rounds. N objects, F inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.distributed.ranks import Ranks
from hpctrain.families.trees.boosting import Boosting
from hpctrain.families.trees.forest import Forest
from hpctrain.families.trees.histogram import Binned
from hpctrain.families.trees.section import FOREST
from hpctrain.families.trees.targets import LeafLabels, SmoothedDensityHead, targets_of
from hpctrain.families.trees.task import Arrays, Task, merged, named, part_of
from hpctrain.kinds.catalogue.facts import INPUTS

if TYPE_CHECKING:
    from hpctrain.families.trees.section import TreesSection
    from hpctrain.kinds.catalogue.facts import CatalogueFacts
    from hpctrain.samples.arrays import ArrayBatch

ALONE = Ranks()

MOST_JUDGED = 2000
"""Largest number of training objects that a round computes its loss from."""


@dataclass(frozen=True)
class Answered:
    """Some objects with the outputs of all heads; what ``LabelNetwork`` reads of a batch."""

    row: Tensor
    has_input: Tensor
    labels: Mapping[str, Tensor]
    outputs: list[Tensor] = field(default_factory=list)


class Trees:
    """Trees for each label, and the heads that judge and describe what they say.

    A tree depends on nothing but the seed of the run, its number, and the training objects; a tree of ``boosting``
    also on the trees before it, which the state holds. So a resumed run ends with the same bits, as do several ranks
    that share the trees of a round.

    Parameters
    ----------
    section : TreesSection
        With settled labels.
    facts : CatalogueFacts
    """

    def __init__(self, section: TreesSection, facts: CatalogueFacts) -> None:
        self.section = section
        self.network = LeafLabels(section.labels)
        learner = Forest if section.method == FOREST else Boosting
        self.learners = [learner(section, head, len(facts.names)) for head in self.heads]
        self._read: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | None = None
        self._binned: Binned | None = None

    @property
    def heads(self) -> Any:
        """Heads of the labels, in the order of ``model.labels``."""
        return self.network.heads

    @torch.no_grad()
    def do_round(
        self,
        number: int,
        rows: np.ndarray,
        read: Callable[[np.ndarray], Iterator[ArrayBatch]],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> dict[str, float]:
        """Grow the trees of a round, each on one of the ranks. The loss is that of training objects which the new trees
        have not seen, for ``forest``, and of training objects under all trees for ``boosting``."""
        inputs, labels = self._training(rows, read)
        rng = np.random.default_rng(np.random.SeedSequence([seed, self.section.trees_per_round]))
        judged = np.sort(rng.choice(len(rows), min(MOST_JUDGED, len(rows)), replace=False))
        tasks = [self._task(index, inputs, labels, seed, judged, ranks) for index in range(len(self.learners))]
        grown = self._grow(tasks, ranks)
        taken = {name: torch.from_numpy(values[judged]) for name, values in labels.items()}
        outputs = []
        for index, (learner, task) in enumerate(zip(self.learners, tasks, strict=True)):
            pieces = [part_of(grown, f"{index}.{piece}") for piece in range(learner.num_pieces)]
            mean, has = learner.add(pieces, task)
            outputs.append(learner.outputs(mean))
            taken = _only(taken, learner.head.title, has)
        has_input = torch.from_numpy(np.isfinite(inputs[judged]).any(axis=1))
        sums = self.network(Answered(torch.from_numpy(rows[judged]), has_input, taken, outputs))
        return {name: float(value) for name, value in sums.items()}

    def _task(
        self,
        index: int,
        inputs: np.ndarray,
        labels: Mapping[str, np.ndarray],
        seed: int,
        judged: np.ndarray,
        ranks: Ranks,
    ) -> Task:
        targets, weight = targets_of(self.learners[index].head, labels)
        weight = np.where(np.isfinite(inputs).any(axis=1), weight, 0.0)
        source = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
        side_by_side = max(1, min(torch.get_num_threads(), len(ranks.mine(len(self._pieces)))))
        threads = max(1, torch.get_num_threads() // side_by_side)
        return Task(inputs, targets, weight, source, judged, self._binned, threads)

    @property
    def _pieces(self) -> list[tuple[int, int]]:
        """The pieces of work of a round: label and number."""
        return [(index, piece) for index, one in enumerate(self.learners) for piece in range(one.num_pieces)]

    def _grow(self, tasks: list[Task], ranks: Ranks) -> Arrays:
        """Return the new trees of all labels, of which each rank grows a part on its cores."""
        pieces = self._pieces
        mine = [pieces[number] for number in ranks.mine(len(pieces))]

        def grow(where: tuple[int, int]) -> Arrays:
            index, piece = where
            return named(f"{index}.{piece}", self.learners[index].grow(piece, tasks[index]))

        with ThreadPoolExecutor(max(1, min(len(mine), torch.get_num_threads()))) as pool:
            return ranks.share(merged(pool.map(grow, mine)))

    def _training(self, rows: np.ndarray, read: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return inputs (N, F) and labels of the training objects, which are read once."""
        if self._read is None or not np.array_equal(self._read[0], rows):
            parts = [(batch, batch.row.numpy() >= 0) for batch in read(rows)]
            inputs = np.concatenate([batch[INPUTS].cpu().numpy()[kept] for batch, kept in parts])
            names = list(parts[0][0].labels)
            labels = {n: np.concatenate([batch.labels[n].cpu().numpy()[kept] for batch, kept in parts]) for n in names}
            self._read = rows.copy(), inputs, labels
            self._binned = Binned(inputs) if self.section.uses_histograms else None
        return self._read[1], self._read[2]

    def answer(self, batch: ArrayBatch) -> Answered:
        """Return a prepared batch with the outputs of all heads."""
        inputs = batch[INPUTS].cpu().numpy()
        has_input = torch.from_numpy(np.isfinite(inputs).any(axis=1))
        outputs = [learner.outputs(learner.mean(inputs)) for learner in self.learners]
        labels = {name: values.cpu() for name, values in batch.labels.items()}
        return Answered(batch.row.cpu(), has_input, labels, outputs)

    @torch.no_grad()
    def score(self, batch: ArrayBatch) -> dict[str, float]:
        """Return sums over a batch of held-out objects."""
        return {name: float(value) for name, value in self.network(self.answer(batch)).items()}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return ``loss``, and the metrics of each label as ``<title>_<metric>``."""
        return self.network.metrics(sums)

    def predict(self, batch: ArrayBatch) -> dict[str, Tensor]:
        """Return the predicted columns of each label as ``<title>_<column>``."""
        return self.network.predict(self.answer(batch))

    def judged(self, batch: ArrayBatch) -> dict[str, Tensor]:
        """Return columns that compare the predictions with the labels of the batch."""
        return self.network.judged(self.answer(batch))

    def usable(self, batch: ArrayBatch) -> Tensor:
        """Return, for each object, whether it has a value in any column, (N,), bool."""
        return (batch.row >= 0) & torch.isfinite(batch[INPUTS]).any(dim=1)

    def outputs(self, batch: ArrayBatch) -> list[tuple[Any, Tensor]]:
        """Return each head with its outputs (N, K)."""
        return self.network.outputs(self.answer(batch))

    def choose_widths(self, inputs: np.ndarray, labels: Mapping[str, Tensor]) -> None:
        """Fit the smoothing of densities to held-out objects, before :meth:`calibrate` fits the uncertainties."""
        for learner in self.learners:
            if isinstance(learner.head, SmoothedDensityHead):
                learner.head.choose_width(learner.mean(inputs), labels)

    def calibrate(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> None:
        """Fit the uncertainties to held-out objects; see :meth:`LabelNetwork.calibrate`."""
        self.network.calibrate(outputs, labels)

    def state(self) -> dict[str, np.ndarray]:
        """Return trees, leaves and calibration as plain arrays."""
        found: dict[str, np.ndarray] = {}
        for number, learner in enumerate(self.learners):
            found |= named(str(number), learner.state())
            found[f"{number}.calibration"] = learner.head.calibration.numpy().reshape(1)
            if learner.head.monotone is not None:
                found[f"{number}.monotone"] = learner.head.monotone.numpy()
            if isinstance(learner.head, SmoothedDensityHead):
                found[f"{number}.width"] = learner.head.width.numpy().reshape(1)
        return found

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a state."""
        for number, learner in enumerate(self.learners):
            own = part_of(state, str(number))
            learner.load(own)
            learner.head.calibration.fill_(float(own["calibration"][0]))
            if learner.head.monotone is not None:
                learner.head.monotone.copy_(torch.from_numpy(np.asarray(own["monotone"])))
            if isinstance(learner.head, SmoothedDensityHead):
                learner.head.width.fill_(float(own["width"][0]))


def _only(labels: Mapping[str, Tensor], title: str, has: np.ndarray) -> dict[str, Tensor]:
    """Return labels in which those of one title are missing where `has` is false."""
    found = dict(labels)
    values = found[title]
    missing = torch.tensor(torch.nan if values.is_floating_point() else -1, dtype=values.dtype)
    found[title] = torch.where(torch.from_numpy(has), values, missing)
    return found
