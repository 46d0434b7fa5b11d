"""The section of the report about ``results/predictions.h5``, for families that draw nothing of their own."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from hpctrain.drawing.scale import DASH, grouped, significant
from hpctrain.drawing.table import table
from hpctrain.families.result_files import Arrays
from hpctrain.families.shown import Panel

FILE = "predictions.h5"
MOST_COLUMNS = 60
"""Largest number of rows of the table; the file has all columns."""
_NAMES = ("target_id", "row")
"""Columns that say which sample a row is about."""
_HEADS = ["Column", "Type", "Lowest", "Median", "Highest", "Not finite"]


def draw_predictions(files: Mapping[str, Arrays]) -> str:
    """Return the number of predictions, and a table of their columns as HTML.

    Parameters
    ----------
    files : mapping
        Arrays of ``predictions.h5``, each of shape (N, ...).
    """
    found = {name: values for name, values in files[FILE].items() if values.ndim}
    if not found:
        return ""
    number = max(len(values) for values in found.values())
    columns = {name: values for name, values in found.items() if name not in _NAMES}
    shown = list(columns)[:MOST_COLUMNS]
    rest = f" {len(columns) - len(shown)} more columns are in the file." if len(columns) > len(shown) else ""
    lead = f"{grouped(number)} held-out samples are in results/{FILE}.{rest}"
    rows = [[escape(cell) for cell in _cells(name, columns[name])] for name in shown]
    return f'<p class="lead">{lead}</p>{table(_HEADS, rows)}'


def _cells(name: str, values: np.ndarray) -> list[str]:
    shape = "".join(f" × {length}" for length in values.shape[1:])
    kind = f"{'text' if values.dtype.kind in 'OSU' else values.dtype.name}{shape}"
    if values.dtype.kind not in "biuf" or not values.size:
        return [name, kind, *[DASH] * 4]
    numbers = values.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return [name, kind, *[DASH] * 3, grouped(len(numbers))]
    three = [significant(float(value)) for value in (finite.min(), np.median(finite), finite.max())]
    return [name, kind, *three, grouped(len(numbers) - len(finite)) if len(finite) < len(numbers) else DASH]


PREDICTIONS = Panel("predictions", "Predictions", (FILE,), draw_predictions)
"""Lowest, median and highest value of each column of ``results/predictions.h5``."""
