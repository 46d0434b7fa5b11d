"""The block ``sky`` of ``validation.json``: maps of the number of objects and of metrics, and whether these vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.errors import DataError, SiteError
from hpctrain.profile.sections.validate import SkySection
from hpctrain.validation.bias.figures import SHOWN
from hpctrain.validation.bias.influence import influence
from hpctrain.validation.bias.judge import LEVEL, TESTED
from hpctrain.validation.bias.restricted import restricted
from hpctrain.validation.bias.sky import FEWEST_IN_CELL, Variation, variation
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.task import ZERO, Metric, Task

INSTALL = "maps of the sky need the package astropy-healpix: pip install 'hpctrain[validation]'"
MOST_CELLS = 3000
"""Largest number of cells with objects that a figure draws."""


def add_sky(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``sky`` and its maps; empty where the files have no coordinates, and the profile names none.

    Parameters
    ----------
    judged : Judged
    section : ValidateSection, optional

    Raises
    ------
    DataError
        The files lack the coordinates that the profile names.
    SiteError
        The profile asks for the sky, and astropy-healpix is not installed.
    """
    asked = section is not None and section.sky is not None
    sky = section.sky if asked else SkySection()
    if not asked and not {sky.ra, sky.dec} <= set(judged.column_names()):
        return {}
    try:
        cell = cells_of(judged, sky)
    except SiteError as error:
        if asked:
            raise
        return {"sky": {"nside": sky.nside, "note": str(error)}}
    tests = [(task, metric, found) for task in judged.tasks for metric, found in _tests(task, cell, judged.target_id)]
    adjusted = holm(np.array([found.p for *_, found in tests]))
    entries: dict[str, dict[str, Any]] = {}
    figures = [_number_map(judged, cell, sky)]
    for (task, metric, found), p in zip(tests, adjusted.tolist(), strict=True):
        flagged = found.cells[found.p_cells * len(tests) < LEVEL]
        entries.setdefault(task.title, {})[metric.name] = _entry(found, p, flagged)
        if (metric.of or metric.name) in SHOWN:
            figures.append(_metric_map(task, metric, found, p, flagged, cell, sky))
    cells, counts = np.unique(cell[cell >= 0], return_counts=True)
    block = {
        "nside": sky.nside,
        "order": "nested",
        "level": LEVEL,
        "correction": "Holm",
        "cells": cells,
        "num_rows": counts,
        "num_tests": int(np.isfinite(adjusted).sum()),
        "num_varying": int((adjusted < LEVEL).sum()),
        "tasks": entries,
    }
    return {"sky": block, "figures": [each for each in figures if each is not None]}


def cells_of(judged: Judged, sky: SkySection) -> np.ndarray:
    """Return the nested HEALPix cell of each row, (R,), int64; -1 where there is no position.

    Raises
    ------
    DataError, SiteError
        As :func:`add_sky`.
    """
    try:
        from astropy import units
        from astropy_healpix.core import lonlat_to_healpix
    except ModuleNotFoundError as error:
        raise SiteError(INSTALL) from error
    ra, dec = (judged.column(name) for name in (sky.ra, sky.dec))
    for name, values in ((sky.ra, ra), (sky.dec, dec)):
        if values.dtype.kind not in "iuf":
            raise DataError(f"validate.sky: the column {name} holds no numbers")
    ra, dec = ra.astype(np.float64), dec.astype(np.float64)
    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    found = np.full(len(ra), -1, dtype=np.int64)
    found[known] = lonlat_to_healpix(ra[known] * units.deg, dec[known] * units.deg, sky.nside, order="nested")
    return found


def _tests(task: Task, cell: np.ndarray, target_id: np.ndarray) -> list[tuple[Metric, Variation]]:
    found = []
    for metric in task.metrics:
        own = influence(task.statistic(metric.name)) if (metric.of or metric.name) in TESTED else None
        if own is not None:
            tested = variation(own, cell, target_id)
            if np.isfinite(tested.p):
                found.append((metric, tested))
    return found


def _entry(found: Variation, p: float, flagged: np.ndarray) -> dict[str, Any]:
    return {
        "num_cells": found.num_cells,
        "num_objects": found.num_objects,
        "p": found.p,
        "p_adjusted": p,
        "varies": bool(p < LEVEL),
        "scatter_beyond_chance": found.scatter,
        "flagged_cells": flagged,
    }


def _number_map(judged: Judged, cell: np.ndarray, sky: SkySection) -> dict[str, Any] | None:
    cells, counts = np.unique(cell[cell >= 0], return_counts=True)
    if not 0 < len(cells) <= MOST_CELLS:
        return None
    drawn = [
        {"corners": corners, "value": int(count), "num": int(count)}
        for corners, count in zip(corners_of(cells, sky.nside), counts, strict=True)
    ]
    caption = f"{int(counts.sum()):,} held-out rows in {len(cells):,} HEALPix cells (nside {sky.nside})."
    return figure(f"{judged.tasks[0].title}.sky.number", "Held-out rows on the sky", "sky",
                  {"cells": drawn, "label": "rows"}, caption)  # fmt: skip


def _metric_map(
    task: Task, metric: Metric, found: Variation, p: float, flagged: np.ndarray, cell: np.ndarray, sky: SkySection
) -> dict[str, Any] | None:
    if not 0 < len(found.cells) <= MOST_CELLS:
        return None
    statistic, order = task.statistic(metric.name), np.argsort(cell, kind="stable")
    begins, ends = (np.searchsorted(cell[order], found.cells, side=side) for side in ("left", "right"))
    drawn = []
    for name, corners, begin, end in zip(found.cells, corners_of(found.cells, sky.nside), begins, ends, strict=True):
        rows = order[begin:end]
        value = float(restricted(statistic, rows).scores(np.ones((1, len(rows))))[0])
        number = int(statistic.used[rows].sum())
        drawn.append({"corners": corners, "value": value, "num": number, "flagged": bool(name in flagged)})
    said = f"varies by {found.scatter:.3g} (standard deviation) beyond chance" if p < LEVEL else "varies as chance does"
    caption = (
        f"In {len(drawn):,} cells with {FEWEST_IN_CELL} objects or more the metric {said}: p = {p:.2g} by "
        "permutations, adjusted for all metrics."
    )
    data = {"cells": drawn, "label": metric.label, "unit": metric.unit}
    if metric.better == ZERO:
        data["around"] = 0.0
    title = f"{metric.label[0].upper()}{metric.label[1:]} on the sky"
    return figure(f"{task.title}.sky.{metric.name}", title, "sky", data, caption)


def corners_of(cells: np.ndarray, nside: int) -> list[list[tuple[float, float]]]:
    """Return right ascension and declination [deg] of the four corners of nested HEALPix cells (C,)."""
    from astropy_healpix.core import boundaries_lonlat

    lon, lat = (each.to_value("deg") for each in boundaries_lonlat(cells, 1, nside, order="nested"))
    return [list(zip(a.tolist(), b.tolist(), strict=True)) for a, b in zip(lon, lat, strict=True)]
