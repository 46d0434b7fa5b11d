"""Clusters of objects as a model family. The methods import what they need when they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.family import Family
from hpctrain.families.shown import Card, Column, Curve, Panel

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.families.clusters.model import Clusters as Model
    from hpctrain.families.clusters.network import Assigner
    from hpctrain.families.clusters.section import ClustersSection
    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.result_files import Arrays
    from hpctrain.kinds.catalogue.facts import CatalogueFacts
    from hpctrain.profile.judge import Judge
    from hpctrain.samples.protocols import Batch, Samples


class Clusters(Family):
    """Groups of similar objects."""

    name = "clusters"
    kind = "catalogue"
    how = "rounds"
    loss = Curve(
        "loss",
        "Loss",
        unit="loss per object",
        caption="Of the best candidate so far: the squared distance to the nearest centre per axis (kmeans), minus the "
        "log of the density (mixture), or 1 minus the degree of membership (hdbscan). It falls with the number of "
        "clusters, so it does not choose that number.",
        log=False,
    )
    against_overfitting = "fewer model.clusters, a simpler model.covariance, or model.reduce: pca"

    @property
    def section(self) -> type[ClustersSection]:  # pydantic is imported only for a profile
        from hpctrain.families.clusters.section import ClustersSection

        return ClustersSection

    def network(self, section: ClustersSection, facts: CatalogueFacts) -> Model:
        from hpctrain.families.clusters.model import Clusters as Model

        return Model(section, facts)

    def num_rounds(self, section: ClustersSection) -> int:
        return section.rounds

    def bytes_per_sample(self, section: ClustersSection, sample: int, cores: int) -> int:
        return 12 * sample

    def judge(self, judge: Judge) -> None:
        from hpctrain.families.clusters.judge import check_clusters

        check_clusters(judge)

    def settle(
        self,
        section: ClustersSection,
        samples: Samples,
        rows: np.ndarray,
        start: ClustersSection | None = None,
    ) -> ClustersSection:
        from hpctrain.families.clusters.columns import settle

        return settle(section, samples, rows)

    def labels(self, section: ClustersSection, samples: Samples) -> Mapping[str, np.ndarray]:
        from hpctrain.families.clusters.columns import read_classes

        return read_classes(section, samples)

    def to_network(self, model: Model) -> Assigner:
        from hpctrain.errors import DataError

        network = model.network
        if not network.space.is_network:
            raise DataError(
                "UMAP finds the place of a new object by a search among the training objects, which is no network; "
                "models with reduce: none or pca can be exported"
            )
        if not network.partition.is_network:
            raise DataError(
                "HDBSCAN finds the cluster of a new object by a search among the training objects, which is no "
                "network; kmeans and mixture can be exported"
            )
        return network

    def predictions(self, model: Model, card: Mapping[str, Any], batch: Batch) -> dict[str, np.ndarray]:
        from hpctrain.families.clusters.columns import predicted

        return predicted(model, batch)

    def columns_of(self, card: Mapping[str, Any]) -> Mapping[str, Column]:
        from hpctrain.families.clusters.columns import columns_of

        return columns_of(card["section"])

    def curves(self) -> Sequence[Curve]:
        return (
            Curve("clusters", "Clusters of the best candidate so far", unit="clusters", log=False, training=False),
            Curve(
                "ari", "Agreement with the label", unit="adjusted Rand index", label="ARI", log=False, training=False
            ),
        )

    def cards(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> Sequence[Card]:
        from hpctrain.families.clusters.show import cards

        return cards(results)

    def fit_sentence(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> str:
        from hpctrain.families.clusters.show import fit_sentence

        return fit_sentence(results) or super().fit_sentence(evaluation, held_out, results)

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.clusters.show import PANELS

        return PANELS

    def write_results(self, model: Model, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.clusters.results import write_clusters

        super().write_results(model, card, held_out, folder)
        write_clusters(model, held_out, folder)


FAMILY = Clusters()
"""The family ``clusters``."""
