"""The label that clusters are compared with, and the columns that are predicted. N objects, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.clusters.section import HDBSCAN, KMEANS, ClustersSection
from hpctrain.families.clusters.space import used_inputs
from hpctrain.families.labels.columns import codes_of, texts_of
from hpctrain.families.labels.section import MOST_CLASSES, LabelSection
from hpctrain.families.shown import Column
from hpctrain.kinds.catalogue.facts import INPUTS

if TYPE_CHECKING:
    from hpctrain.families.clusters.model import Clusters
    from hpctrain.samples.arrays import ArrayBatch
    from hpctrain.samples.protocols import Samples

LABEL = "LABEL"
"""Column of predictions with the known class, as text; empty where there is none."""


def settle(section: ClustersSection, samples: Samples, rows: np.ndarray) -> ClustersSection:
    """Return the section with the names of the classes.

    Raises
    ------
    DataError
        The training objects are too few for the clusters, or the label holds no classes.
    """
    used = used_inputs(section, samples.names)  # type: ignore[attr-defined]
    known = np.isfinite(samples.columns[INPUTS][rows][:, used])  # type: ignore[attr-defined]
    usable = int((known.all(axis=1) if section.missing_values == "drop" else known.any(axis=1)).sum())
    needed = max(2 * max(section.candidates), 2)
    if usable < needed:
        hint = "; model.missing_values: median keeps objects that lack some inputs" if usable < len(rows) else ""
        raise DataError(
            f"{usable:,} of {len(rows):,} training objects can be used, but {max(section.candidates)} "
            f"{'objects per cluster' if section.method == HDBSCAN else 'clusters'} need {needed:,} or more{hint}"
        )
    if section.label is None or section.classes is not None:
        return section
    texts = texts_of(samples.column(section.label)[rows], _as_label(section.label))
    classes = np.unique(texts[texts != ""]).tolist()
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise DataError(
            f"{section.label}: {len(classes):,} classes among the training objects; clusters are compared with 1 to "
            f"{MOST_CLASSES}"
        )
    return section.model_copy(update={"classes": classes})


def read_classes(section: ClustersSection, samples: Samples) -> dict[str, np.ndarray]:
    """Return the number of the class of every object, (N,), int64, by the name of the column; C where there is none.

    An object without a label is clustered like the others, so its number is not the one that means "missing".
    """
    if section.label is None:
        return {}
    classes = section.classes or []
    codes = codes_of(texts_of(samples.column(section.label), _as_label(section.label)), classes)
    return {section.label: np.where(codes < 0, len(classes), codes)}


def predicted(model: Clusters, batch: ArrayBatch) -> dict[str, np.ndarray]:
    """Return the columns of a batch, and the known classes where it has a label."""
    columns = {name: values.numpy() for name, values in model.predict(batch).items()}
    for codes in batch.labels.values():
        names = np.char.encode(np.array([*(model.section.classes or []), ""]), "utf-8")
        columns[LABEL] = names[np.where(codes.numpy() < 0, len(names) - 1, codes.numpy())]
    return columns


def columns_of(section: Mapping[str, Any]) -> dict[str, Column]:
    """Return what the columns mean, for the section of a model's card."""
    distance = "distance to the centre of the cluster, in scaled inputs"
    if section["method"] == HDBSCAN:
        distance = "mutual reachability distance to the nearest training object, in scaled inputs"
    elif section["method"] != KMEANS:
        distance = "Mahalanobis distance to the centre of the cluster"
    member = "degree of membership" if section["method"] == HDBSCAN else "posterior probability of the cluster"
    return {
        "CLUSTER": Column("", "number of the cluster, the largest is 0; -1: noise, or a missing input"),
        "DISTANCE": Column("", f"{distance}; NaN if an input is missing"),
        "PROBABILITY": Column("", member),
        "OUTLIER": Column("", "share of the training objects that lie closer to the clusters"),
        LABEL: Column("", f"known class, from the column {section.get('label')}"),
    }


def _as_label(column: str) -> LabelSection:
    return LabelSection(column=column, kind="class")
