"""The ``model`` section of a profile with ``model.family: clusters``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText
from hpctrain.profile.sections.model import ModelSection

FITTED = "the clusters of the checkpoint were found with it"
"""Reason why a resumed run cannot change a key that decides what clusters are found."""

KMEANS, MIXTURE, HDBSCAN = "kmeans", "mixture", "hdbscan"
BIC, SILHOUETTE, STABILITY = "bic", "silhouette", "stability"
DROP, MEDIAN = "drop", "median"
PCA, UMAP = "pca", "umap"

Number = Annotated[int, Field(ge=1, le=1000)]
ClusterSize = Annotated[int, Field(ge=2)]


class ClustersSection(ModelSection):
    """Groups of similar objects. A round fits the clusters once, to all training objects or to a resample of them."""

    fixed: ClassVar[Mapping[str, str]] = {
        **ModelSection.fixed,
        **dict.fromkeys(
            (
                "method",
                "clusters",
                "min_cluster_size",
                "min_samples",
                "covariance",
                "starts",
                "criterion",
                "resamples",
                "inputs",
                "scale",
                "clip",
                "missing_values",
                "reduce",
                "neighbours",
                "components",
                "label",
                "classes",
            ),
            FITTED,
        ),
    }
    pinned: ClassVar[tuple[str, ...]] = ("classes",)

    method: Literal["kmeans", "mixture", "hdbscan"] = "mixture"
    """``kmeans``: round clusters of similar size around centres. ``mixture``: a sum of normal distributions.
    ``hdbscan``: dense regions of any shape; objects between them belong to no cluster."""
    clusters: Number | Annotated[list[Number], Field(min_length=1, max_length=100)] = [2, 3, 4, 5, 6, 7, 8, 9, 10]
    """Number of clusters, or a list of numbers from which `criterion` chooses; for ``kmeans`` and ``mixture``."""
    min_cluster_size: ClusterSize | Annotated[list[ClusterSize], Field(min_length=1, max_length=100)] = 50
    """Smallest number of objects of a cluster, or a list of such numbers to choose from; for ``hdbscan``."""
    min_samples: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Neighbours that define how dense a place is, for ``hdbscan``; if unset, the smaller of `min_cluster_size` and
    10."""
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"
    """Shapes of the normal distributions of ``mixture``: any ellipsoid each, the same one for all, ellipsoids along the
    axes, spheres."""
    starts: Annotated[int, Field(ge=1, le=1000)] = 5
    """Fits from different random starts, of which the best one counts; for ``kmeans`` and ``mixture``."""
    criterion: Literal["bic", "silhouette", "stability"] | None = None
    """What chooses from a list: the lowest Bayesian information criterion (``mixture`` only), the largest mean
    silhouette, or the most stable clusters. If unset: ``bic`` for ``mixture``, ``silhouette`` for ``kmeans``,
    ``stability`` for ``hdbscan``."""
    resamples: Annotated[int, Field(ge=0, le=1000)] = 10
    """Resamples of the training objects that each candidate is fitted to, to see how stable its clusters are; 0 for
    none, otherwise 2 or more."""
    inputs: Annotated[list[PathText], Field(min_length=1, max_length=10000)] | None = None
    """Inputs in which the clusters are found, by the names that the report shows, such as ``u - g``; if unset, all."""
    scale: Literal["robust", "standard", "none"] = "standard"
    """``robust`` subtracts the median of each input and divides by its interquartile range / 1.349, ``standard`` by its
    standard deviation, for which values beyond 100 such units count as being there."""
    clip: Annotated[float, Field(gt=0)] | None = 10.0
    """Largest absolute value of a scaled input; larger ones are set to it, so that a few wild values make no clusters
    of their own."""
    missing_values: Literal["drop", "median"] = "drop"
    """``drop``: an object that lacks an input belongs to no cluster. ``median``: a missing input counts as the median
    of the training objects."""
    reduce: Literal["none", "pca", "umap"] = "none"
    """``pca``: find the clusters in the first principal components of the scaled inputs. ``umap``: find them in an
    embedding of few axes in which neighbours stay neighbours; it needs umap-learn."""
    neighbours: Annotated[int, Field(ge=2, le=1000)] = 15
    """Neighbours of an object that ``umap`` keeps together."""
    components: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Number of principal components, or the share of the variance that they must contain; for ``umap`` the number of
    axes, by default 2."""
    label: PathText | None = None
    """Column with known classes, to compare the clusters with; it does not influence them."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes of this column; if unset, all of the training objects."""

    @property
    def candidates(self) -> list[int]:
        """Numbers of clusters to try, or smallest numbers of objects of a cluster for ``hdbscan``."""
        given = self.min_cluster_size if self.method == HDBSCAN else self.clusters
        return [given] if isinstance(given, int) else list(given)

    @property
    def chooses_by(self) -> str:
        """The criterion that chooses from the candidates."""
        return self.criterion or {KMEANS: SILHOUETTE, MIXTURE: BIC, HDBSCAN: STABILITY}[self.method]

    @property
    def rounds(self) -> int:
        """Number of rounds: one fit to all objects and `resamples` to resamples, for each candidate."""
        return len(self.candidates) * (1 + self.resamples)
