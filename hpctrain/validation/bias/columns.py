"""Which columns have bins: those of the profile, or sensible ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.sections.validate import BinsSection
from hpctrain.validation.bins import Bin, bins_of
from hpctrain.validation.judged import Judged

COMMON = re.compile(r"^(snr|s_?n|sn_?median(_all)?|survey|instrument)$", re.IGNORECASE)
"""Names of columns of the files that have bins where the profile names none."""


def chosen_columns(judged: Judged, section: Any = None) -> list[tuple[BinsSection, Sequence[Bin]]]:
    """Return the columns with their bins.

    Parameters
    ----------
    judged : Judged
    section : ValidateSection, optional
        Its `bins`. Without any, the true and the predicted value of each label, and columns of the files that are
        called like a signal-to-noise ratio or a survey; of these, what has a single value is left out.

    Raises
    ------
    DataError
        The files lack a column that the profile names.
    """
    if section is not None and section.bins:
        return [(entry, bins_of(judged, entry)) for entry in section.bins]
    names = [f"{task.title}_{side}" for task in judged.tasks for side in ("TRUE", "PRED")]
    names = [name for name in names if name in judged.columns]
    names += [name for name in judged.files.names() if COMMON.match(name)]
    found = []
    for name in names:
        entry = BinsSection(column=name)
        try:
            bins = bins_of(judged, entry)
        except DataError:  # the column is there, but says nothing of these rows, or the files are gone
            continue
        if sum(bool(np.any(each.rows)) for each in bins) > 1:
            found.append((entry, bins))
    return found


def side_of(judged: Judged, column: str) -> str:
    """Return ``true`` or ``predicted`` for the column of a label that holds one of these, else an empty text."""
    for task in judged.tasks:
        if column == f"{task.title}_PRED":
            return "predicted"
        if column == f"{task.title}_TRUE":
            return "true"
        for label in judged.card["section"].get("labels") or ():
            if column == label["column"]:
                return "true"
    return ""
