"""Look at the training rows of a catalogue before a run: columns without values, constants, identifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.leaks import looks_like_id
from hpctrain.profile.inspection import ERROR, WARNING, Inspection, Remark

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.samples import CatalogueSamples
    from hpctrain.kinds.catalogue.section import CatalogueSection

MOST_INSPECTED = 20_000
"""Largest number of rows to look at."""


def inspect_catalogue(samples: CatalogueSamples, rows: np.ndarray, data: CatalogueSection) -> Inspection:
    """Return what is wrong or doubtful with the columns of a catalogue.

    Parameters
    ----------
    samples : CatalogueSamples
    rows : ndarray, shape (n,), int64
        Training rows; the function looks at the first 20,000.
    data : CatalogueSection
    """
    inputs = samples.inputs[rows[:MOST_INSPECTED]]
    remarks = []
    known = np.isfinite(inputs)
    if len(inputs) and not known.any():
        text = "no training object has a value in any column of data.features; check data.missing"
        remarks.append(Remark(ERROR, "no-values", text, "data.features"))
    for name, values, is_known in zip(samples.names, inputs.T, known.T, strict=True):
        if known.any() and len(values) and not is_known.any():
            text = f"{name}: no training object has a value; remove the column, or check data.missing"
            remarks.append(Remark(WARNING, "empty-column", text, "data.features"))
        elif looks_like_id(values):
            text = (
                f"{name}: all values are different whole numbers, as those of an identifier; a model can learn from it "
                "which object it sees. Remove it from data.features if it is one"
            )
            remarks.append(Remark(WARNING, "identifier", text, "data.features"))
    num_empty = int((~known.any(axis=1)).sum())
    return Inspection(len(rows), len(inputs), num_empty, remarks=remarks)
