"""Bins of a column, and ranges of it: which rows they hold. R rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpctrain.drawing.scale import significant
from hpctrain.errors import DataError
from hpctrain.profile.sections.validate import BinsSection
from hpctrain.validation.judged import Judged

DEFAULT_QUANTILES = 5
MOST_VALUES = 20
"""Largest number of different whole numbers that are bins of their own, where the profile sets no edges."""
MOST_TEXTS = 50
"""Largest number of different texts that are bins; of more, the rarest are in none."""


@dataclass(frozen=True)
class Bin:
    """Rows whose value of a column is in a range, or is one value.

    Parameters
    ----------
    label : str
        What people call it, such as ``16 to 17``.
    rows : ndarray, shape (R,), bool
    low, high : float or None
        Ends of a range of numbers; None where there is no end, or for a bin of one text. `high` is not in the range.
    """

    label: str
    rows: np.ndarray
    low: float | None = None
    high: float | None = None


def bins_of(judged: Judged, section: BinsSection) -> list[Bin]:
    """Return the bins of a column; rows whose value is not finite, or an empty text, are in none.

    Parameters
    ----------
    judged : Judged
    section : BinsSection

    Raises
    ------
    DataError
        There is no such column, or it has no value.
    """
    values = judged.column(section.column)
    if values.dtype.kind not in "iufb":
        return _of_texts(values, section)
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise DataError(f"validate.bins: the column {section.column} has no number at the held-out samples")
    if section.edges is not None:
        return ranges(values, section.edges)
    different = np.unique(finite)
    if section.quantiles is None and len(different) <= MOST_VALUES and (different == np.round(different)).all():
        return [Bin(f"{value:g}", values == value, value, value) for value in different.tolist()]
    number = section.quantiles or DEFAULT_QUANTILES
    edges = np.unique(np.quantile(finite, np.arange(1, number) / number))
    return ranges(values, edges.tolist())


def ranges(values: np.ndarray, edges: Sequence[float]) -> list[Bin]:
    """Return the bins of values (R,) between inner edges; the first and the last one have no outer end."""
    ends = [None, *edges, None]
    return [
        Bin(range_text(low, high), in_range(values, low, high), low, high) for low, high in itertools.pairwise(ends)
    ]


def in_range(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """Return which values (R,) are finite, from `low`, and below `high`, (R,), bool."""
    rows = np.isfinite(values)
    rows &= True if low is None else values >= low
    return rows & (True if high is None else values < high)


def range_text(low: float | None, high: float | None) -> str:
    """Return a range in words."""
    if low is None and high is None:
        return "all"
    if low is None:
        return f"below {significant(high)}"
    return f"from {significant(low)}" if high is None else f"{significant(low)} to {significant(high)}"


def _of_texts(values: np.ndarray, section: BinsSection) -> list[Bin]:
    texts = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype(str)
    found, counts = np.unique(texts[texts != ""], return_counts=True)
    if not len(found):
        raise DataError(f"validate.bins: the column {section.column} has no text at the held-out samples")
    common = found[np.argsort(-counts, kind="stable")][:MOST_TEXTS]
    return [Bin(str(text), texts == text) for text in common]
