"""Clusters beside a class that is known: agreement of both, and how stable the clusters are. R rows, K by C cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.families.clusters.trials import NAMES
from hpctrain.families.result_files import read_npz
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import BOUNDED, HIGHER, Metric, Statistic, Task, make_task

KIND = "clusters"
TITLE = "clusters"
FILE = "clusters.npz"
OBJECTS_PER_CELL = 10
"""Objects for each pair of cluster and class, below which mutual information is too large by chance."""

_HUBERT = "Hubert & Arabie 1985, Journal of Classification 2, 193"
_VINH = "Vinh, Epps & Bailey 2010, JMLR 11, 2837"
_MANNING = "Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, Cambridge, sect. 16.3"


def cluster_task(cluster: np.ndarray, label: np.ndarray | None, usable: np.ndarray, results: Path | None) -> Task:
    """Return the task of clusters.

    Parameters
    ----------
    cluster : ndarray, shape (R,), int
        Number of the cluster; -1 is noise, which counts as a cluster.
    label : ndarray, shape (R,), of bytes or str, or None
        Known class; empty where there is none.
    usable : ndarray, shape (R,), bool
        Rows that were assigned.
    results : Path or None
        Folder of the results, with ``clusters.npz``.
    """
    parts: list[tuple[Metric, Statistic]] = []
    known, arrays = usable, {"predicted": cluster}
    if label is not None:
        known = usable & (label != label.dtype.type())
    if label is not None and known.any():
        classes, codes = np.unique(label[known], return_inverse=True)
        groups, numbers = np.unique(cluster[known], return_inverse=True)
        cells = np.zeros((len(cluster), len(groups) * len(classes)))
        cells[np.flatnonzero(known), numbers.reshape(-1) * len(classes) + codes.reshape(-1)] = 1.0
        parts = _agreement(cells, known, (len(groups), len(classes)))
        arrays["true"] = label
    details = dict if results is None else partial(stability, results / FILE)
    return make_task(TITLE, KIND, known, parts, arrays, details)


def _agreement(cells: np.ndarray, known: np.ndarray, shape: tuple[int, int]) -> list[tuple[Metric, Statistic]]:
    ari = Metric(
        "ari",
        "adjusted Rand index",
        "",
        HIGHER,
        "Agreement of the pairs of objects that are together in both groupings; 1 for the same groups, 0 by chance.",
        (_HUBERT,),
    )
    nmi = Metric(
        "nmi",
        "normalised mutual information",
        "",
        HIGHER,
        "Mutual information of cluster and class, divided by the mean of both entropies.",
        (_VINH,),
    )
    purity = Metric(
        "purity", "purity", "", HIGHER, "Share of objects in the most frequent class of their cluster.", (_MANNING,)
    )
    found: list[tuple[Metric, Statistic]] = []
    for metric, function in ((ari, adjusted_rand), (nmi, mutual_information), (purity, purities)):
        few = OBJECTS_PER_CELL if metric is nmi else 0
        found.append((metric, Sums(cells, known, partial(function, shape=shape), None, BOUNDED, objects_per_sum=few)))
    return found


def adjusted_rand(sums: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the adjusted Rand index of tables of counts (D, K C), as (D,).

    References
    ----------
    .. [1] Hubert & Arabie 1985, Journal of Classification 2, 193.
    """
    table = sums.reshape(-1, *shape)

    def pairs(counts: np.ndarray) -> np.ndarray:
        return (counts * (counts - 1) / 2).reshape(len(counts), -1).sum(axis=1)

    total = table.sum(axis=(1, 2))
    both, rows, columns = pairs(table), pairs(table.sum(axis=2)), pairs(table.sum(axis=1))
    chance = rows * columns / (total * (total - 1) / 2)
    largest = (rows + columns) / 2
    return np.where(largest == chance, 1.0, (both - chance) / np.where(largest == chance, 1.0, largest - chance))


def mutual_information(sums: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the normalised mutual information of tables of counts (D, K C), as (D,).

    References
    ----------
    .. [1] Vinh, Epps & Bailey 2010, JMLR 11, 2837.
    """
    p = sums.reshape(-1, *shape) / sums.sum(axis=1)[:, None, None]

    def entropy(share: np.ndarray) -> np.ndarray:
        share = share.reshape(len(share), -1)
        return -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)

    rows, columns = entropy(p.sum(axis=2)), entropy(p.sum(axis=1))
    middle = (rows + columns) / 2
    found = (rows + columns - entropy(p)) / np.where(middle > 0, middle, 1.0)
    return np.where(middle > 0, np.clip(found, 0.0, 1.0), 1.0)


def purities(sums: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the purity of tables of counts (D, K C), as (D,)."""
    table = sums.reshape(-1, *shape)
    return table.max(axis=2).sum(axis=1) / table.sum(axis=(1, 2))


def stability(path: Path) -> dict[str, Any]:
    """Return how much the clusters change when the training objects are drawn anew, as the training has measured it.

    Parameters
    ----------
    path : Path
        ``clusters.npz``.

    Returns
    -------
    dict
        ``stability``: ``ari`` and ``scatter``, mean and standard deviation of the adjusted Rand index between the
        resamples; ``per_cluster``, the mean Jaccard similarity of each cluster. Empty if it was not measured.

    References
    ----------
    .. [1] Hennig 2007, Computational Statistics & Data Analysis 52, 258.
    """
    try:
        found = read_npz(path)
        row = found["trials"][int(found["chosen"])]
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    means, scatter = (float(row[NAMES.index(name)]) for name in ("agreement", "spread"))
    if not np.isfinite(means):
        return {}
    each = found["stability"].tolist()
    return {
        "stability": {"ari": means, "scatter": scatter, "per_cluster": each, "resamples": int(found["num_resamples"])}
    }
