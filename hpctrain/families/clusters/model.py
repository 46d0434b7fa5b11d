"""The model of ``model.family: clusters``, which learns in rounds. N objects, F inputs, D axes, K clusters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from hpctrain.families.clusters.agreement import agreement
from hpctrain.families.clusters.assigned import NOISE, Assigned
from hpctrain.families.clusters.embedding import Embedding, embed
from hpctrain.families.clusters.found import Found, assign, describe, fit
from hpctrain.families.clusters.network import Assigner
from hpctrain.families.clusters.section import HDBSCAN, UMAP
from hpctrain.families.clusters.space import Space, fit_space, used_inputs
from hpctrain.families.clusters.stability import (
    cluster_stability,
    compared,
    counted,
    mean_silhouette,
    pairwise_agreement,
    resampled,
)
from hpctrain.families.clusters.threads import one_thread
from hpctrain.families.clusters.trials import Trials
from hpctrain.kinds.catalogue.facts import INPUTS

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection
    from hpctrain.kinds.catalogue.facts import CatalogueFacts
    from hpctrain.samples.arrays import ArrayBatch

TABLE = "table"
"""First part of the names of sums that count the objects of a cluster and a class."""


@dataclass(frozen=True)
class _Training:
    """The training objects that have a point."""

    rows: np.ndarray
    inputs: np.ndarray
    target_id: np.ndarray
    classes: np.ndarray
    points: np.ndarray


class Clusters:
    """Candidates that are fitted one after the other, and the best of them so far.

    Round number c (1 + R) fits candidate c to all training objects, the next R rounds to resamples of them. A round
    depends on nothing but its seed, its number, the training objects, and the rounds before it, which the state holds.
    All sums run in one thread, and only whole fits run side by side: so the number of cores changes no bit.

    Parameters
    ----------
    section : ClustersSection
        With settled classes.
    facts : CatalogueFacts
    """

    def __init__(self, section: ClustersSection, facts: CatalogueFacts) -> None:
        self.section, self.names = section, facts.names
        self.space: Space | None = None
        self.best: Found | None = None
        self.candidate: Found | None = None
        self.trials = Trials(len(section.candidates), section.chooses_by)
        self.replicas = np.zeros((section.resamples, 0), dtype=np.int32)
        self._training: _Training | None = None
        self._judged: tuple[Any, dict[str, float]] | None = None

    def do_round(
        self, number: int, rows: np.ndarray, read: Callable[[np.ndarray], Iterator[ArrayBatch]], seed: int
    ) -> dict[str, float]:
        """Do one fit; return the sums over the training objects under the best candidate so far."""
        candidate, resample = divmod(number, 1 + self.section.resamples)
        threads = torch.get_num_threads()
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the report says which fits have not converged
            training = self._read(rows, read, seed)
            if resample == 0:
                self._fit_all(candidate, training, seed, threads)
            else:
                self._fit_resample(candidate, resample - 1, training, seed, threads)
            if resample == self.section.resamples:
                self._finish(candidate, training)
            return {**self._sums_of_best(training), "num_samples": float(len(rows))}

    def _sums_of_best(self, training: _Training) -> dict[str, float]:
        """Return the sums over the training objects, computed once for each best candidate."""
        if self._judged is None or self._judged[0] is not self.best:
            assert self.best is not None
            assigned = assign(self.best.partition, training.points)
            weight = torch.ones(len(training.points), dtype=torch.float64)
            self._judged = self.best, self._sums(assigned, weight, training.classes)
        return self._judged[1]

    def _read(self, rows: np.ndarray, read: Any, seed: int) -> _Training:
        """Return the training objects, which are read once, and fit the space if there is none."""
        if self._training is None or not np.array_equal(self._training.rows, rows):
            parts = [(batch, batch.row.numpy() >= 0) for batch in read(rows)]
            inputs = np.concatenate([batch[INPUTS].cpu().numpy()[kept] for batch, kept in parts])
            target_id = np.concatenate([batch.target_id.cpu().numpy()[kept] for batch, kept in parts])
            classes = np.concatenate([_classes(batch)[kept] for batch, kept in parts])
            if self.space is None:
                self.space = fit_space(inputs, self.section, used_inputs(self.section, self.names))
                if self.section.reduce == UMAP:
                    self.space = embed(self.space, inputs, self.section, seed)
            usable = self.space.usable(torch.from_numpy(inputs)).numpy()
            inputs = inputs[usable]
            points = self.space(torch.from_numpy(inputs)).numpy()
            self._training = _Training(rows.copy(), inputs, target_id[usable], classes[usable], points)
        return self._training

    def _fit_all(self, candidate: int, training: _Training, seed: int, threads: int) -> None:
        partition = fit(training.points, self.section.candidates[candidate], self.section, seed, threads)
        found, assigned = describe(partition, training.points, training.target_id, training.inputs)
        chosen = compared(len(training.points))
        labels = assigned.cluster.numpy()[chosen]
        values = {
            "num_clusters": partition.num_clusters,
            "noise": found.sizes[-1] / len(training.points),
            "silhouette": mean_silhouette(training.points[chosen], labels),
        }
        if hasattr(partition, "bic"):
            values |= {"bic": float(partition.bic[0]), "converged": float(partition.converged[0])}
        self.trials.note(candidate, **values)
        self.candidate = found
        self.replicas = np.full((self.section.resamples, len(chosen)), NOISE, dtype=np.int32)
        if self.best is None:
            self.best = found

    def _fit_resample(self, candidate: int, place: int, training: _Training, seed: int, threads: int) -> None:
        drawn = resampled(len(training.points), self.section.method, seed)
        partition = fit(training.points[drawn], self.section.candidates[candidate], self.section, seed, threads)
        self.replicas[place] = assign(partition, training.points[compared(len(training.points))]).cluster.numpy()

    def _finish(self, candidate: int, training: _Training) -> None:
        """Judge a candidate of which all rounds are done, and keep it if it is the best one."""
        assert self.candidate is not None
        found = self.candidate
        labels = assign(found.partition, training.points[compared(len(training.points))]).cluster.numpy()
        stability = cluster_stability(labels, self.replicas, found.partition.num_clusters)
        mean, spread = pairwise_agreement(self.replicas)
        self.trials.note(candidate, agreement=mean, spread=spread)
        if self.trials.is_better(candidate):
            self.trials.chosen, self.best = candidate, replace(found, stability=stability)
        self.candidate, self.replicas = None, self.replicas[:, :0]

    def _sums(self, assigned: Assigned, weight: Tensor, classes: np.ndarray) -> dict[str, float]:
        """Return sums over points of weight 1 or 0."""
        assert self.best is not None
        sums = {
            "loss_sum": float((assigned.loss * weight).sum()),
            "weight_sum": float(weight.sum()),
            "clusters_sum": float(self.best.partition.num_clusters * weight.sum()),
        }
        if self.section.method == HDBSCAN:
            sums["noise_sum"] = float(((assigned.cluster == NOISE) * weight).sum())
        if self.section.classes is not None:
            known = (weight.numpy() > 0) & (classes < len(self.section.classes)) & (classes >= 0)
            shape = self.best.partition.num_clusters, len(self.section.classes)
            table = counted(assigned.cluster.numpy()[known], classes[known], *shape)
            sums |= {
                f"{TABLE}.{row}.{column}": float(count)
                for row, counts in enumerate(table[:, :-1].tolist())
                for column, count in enumerate(counts)
            }
        return sums

    @torch.no_grad()
    def score(self, batch: ArrayBatch) -> dict[str, float]:
        """Return sums over a batch of held-out objects; an object without a point counts as a sample of weight 0."""
        assert self.space is not None
        assert self.best is not None
        inputs, is_real = batch[INPUTS].cpu(), batch.row.cpu() >= 0
        weight = (is_real & self.space.usable(inputs)).double()
        assigned = self.best.partition(self.space(inputs))
        return {**self._sums(assigned, weight, _classes(batch)), "num_samples": float(is_real.sum())}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return ``loss``, ``clusters``, ``noise`` of HDBSCAN, and ``ari``, ``nmi``, ``purity`` where there is a label.

        The loss of one object is the squared distance per axis (``kmeans``), minus the log of the density
        (``mixture``), or 1 minus the degree of membership (``hdbscan``).
        """
        num = sums["weight_sum"] or 1.0
        found = {"loss": sums["loss_sum"] / num, "clusters": sums["clusters_sum"] / num}
        if "noise_sum" in sums:
            found["noise"] = sums["noise_sum"] / num
        return {**found, **agreement(table_of(sums))}

    @property
    def network(self) -> Assigner:
        """What assigns new objects."""
        assert self.space is not None
        assert self.best is not None
        return Assigner(self.space, self.best.partition, self.best.ranks)

    @torch.no_grad()
    def predict(self, batch: ArrayBatch) -> dict[str, Tensor]:
        """Return ``CLUSTER``, ``DISTANCE``, ``OUTLIER``, and but for ``kmeans`` ``PROBABILITY``, of each object."""
        return self.network(batch[INPUTS].cpu())

    def state(self) -> dict[str, np.ndarray]:
        """Return the space, the best candidate, the one that is being judged, and the numbers of all."""
        found = {f"trials.{name}": array for name, array in self.trials.state().items()}
        parts = {"space": self.space, "best": self.best, "candidate": self.candidate}
        for name, part in parts.items():
            if part is not None:
                found |= {f"{name}.{key}": array for key, array in part.state().items()}
        found["replicas"] = self.replicas
        return {name: np.array(array) for name, array in found.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a state."""
        self.trials.load(_part(state, "trials"))
        if space := _part(state, "space"):
            made = Embedding if self.section.reduce == UMAP else Space
            self.space = made(space, self.section.clip, self.section.missing_values == "median")
            if not np.array_equal(space["used"], used_inputs(self.section, self.names)):
                raise ValueError("the state uses other inputs than the model")
        best, candidate = _part(state, "best"), _part(state, "candidate")
        self.best = Found.of(best, self.section.method) if best else None
        self.candidate = Found.of(candidate, self.section.method) if candidate else None
        self.replicas, self._training = np.array(state["replicas"]), None


def table_of(sums: Mapping[str, float]) -> np.ndarray:
    """Return the number of objects of each cluster and class, (K + 1, C), from sums; the last row is noise."""
    names = [name for name in sums if name.startswith(f"{TABLE}.")]
    found = {tuple(map(int, name.split(".")[1:])): sums[name] for name in names}
    table = np.zeros(tuple(1 + max((place[axis] for place in found), default=-1) for axis in (0, 1)))
    for place, value in found.items():
        table[place] = value
    return table


def _classes(batch: ArrayBatch) -> np.ndarray:
    """Return the number of the class of each object, (N,), int64; -1 where there is no label."""
    if not batch.labels:
        return np.full(len(batch), -1, dtype=np.int64)
    [labels] = batch.labels.values()
    return labels.cpu().numpy()


def _part(state: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    start = f"{name}."
    return {key.removeprefix(start): array for key, array in state.items() if key.startswith(start)}
