"""Weights of objects by cells of some columns, so that crowded cells do not decide the loss. N samples, D columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.labels.section import BalanceSection

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Samples

WEIGHT_SUFFIX = ".weight"
"""What is added to the name of a label for the array of the weights of its objects."""


def settle_balance(balance: BalanceSection, samples: Samples, rows: np.ndarray) -> BalanceSection:
    """Return the section with edges and weights that follow from the training samples.

    The weight of a cell is inverse to its number of training samples, at most `largest` times the smallest weight, and
    its mean over the training samples is 1.

    Parameters
    ----------
    balance : BalanceSection
    samples : Samples
    rows : ndarray, shape (n,), int64
        Training rows.

    Raises
    ------
    DataError
        A column is absent, holds texts, or has one value only.
    """
    columns = [_numbers(samples, name)[rows] for name in balance.columns]
    edges = [_edges(name, column, balance.bins) for name, column in zip(balance.columns, columns, strict=True)]
    cell = _cells(edges, columns)
    counts = np.bincount(cell[cell >= 0], minlength=balance.bins ** len(columns)).astype(np.float64)
    weights = counts.max() / np.maximum(counts, counts.max() / balance.largest)
    weights /= float(weights[cell[cell >= 0]].mean())
    return balance.model_copy(update={"edges": [each.tolist() for each in edges], "weights": weights.tolist()})


def weights_of(balance: BalanceSection, samples: Samples) -> np.ndarray:
    """Return the weight of each sample, (N,), float32; 1 where a column has no value.

    Parameters
    ----------
    balance : BalanceSection
        Settled.
    samples : Samples
    """
    assert balance.edges is not None
    assert balance.weights is not None
    columns = [_numbers(samples, name) for name in balance.columns]
    cell = _cells([np.asarray(edges) for edges in balance.edges], columns)
    return np.where(cell >= 0, np.asarray(balance.weights)[cell], 1.0).astype(np.float32)


def _numbers(samples: Samples, name: str) -> np.ndarray:
    column = np.asarray(samples.column(name))
    if column.dtype.kind not in "fiub":
        raise DataError(f"{name}: holds texts; the cells of `balance` are made of numbers")
    return column.astype(np.float64)


def _edges(name: str, column: np.ndarray, bins: int) -> np.ndarray:
    known = column[np.isfinite(column)]
    low, high = np.quantile(known, (0.01, 0.99)) if len(known) else (0.0, 0.0)
    if not low < high:
        raise DataError(f"{name}: nearly all training samples have the same value, so it makes no cells of `balance`")
    return np.linspace(low, high, bins + 1)[1:-1]


def _cells(edges: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the number of the cell of each sample, int64; -1 where a column has no value."""
    cell = np.zeros(len(columns[0]), dtype=np.int64)
    known = np.ones(len(columns[0]), dtype=bool)
    for own, column in zip(edges, columns, strict=True):
        cell = cell * (len(own) + 1) + np.searchsorted(own, column, side="right")
        known &= np.isfinite(column)
    return np.where(known, cell, -1)
