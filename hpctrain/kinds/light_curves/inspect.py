"""Look at training curves before a run: order of the times, points per curve, bands, periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpctrain.profile.inspection import ERROR, NOTE, WARNING, Inspection, Remark

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.samples import LightCurveSamples
    from hpctrain.kinds.light_curves.section import LightCurveSection

MOST_INSPECTED = 2_000
"""Largest number of curves whose points are read."""


def inspect_curves(samples: LightCurveSamples, rows: np.ndarray, data: LightCurveSection) -> Inspection:
    """Return what is wrong or doubtful with light curves.

    Parameters
    ----------
    samples : LightCurveSamples
    rows : ndarray, shape (n,), int64
        Training rows; the function reads the points of 2,000 of them, spread evenly.
    data : LightCurveSection
    """
    looked = rows[:: max(1, len(rows) // MOST_INSPECTED)][:MOST_INSPECTED]
    remarks = _points(samples, looked) + _lengths(samples, rows, data) + _bands(samples, looked, data)
    if samples.is_folded:
        num = int(np.isnan(samples.periods[rows]).sum())
        if num == len(rows):
            remarks.append(Remark(ERROR, "no-periods", "no training curve has a period above 0", "data.fold"))
        elif num:
            text = f"{num:,} of {len(rows):,} training curves have no period above 0 and get no phases"
            remarks.append(Remark(NOTE, "some-periods", text, "data.fold"))
    for name, values in zip(samples.feature_names, samples.features[rows].T, strict=True):
        if len(values) and not np.isfinite(values).any():
            text = f"{name}: no training curve has a value; remove the column"
            remarks.append(Remark(WARNING, "empty-column", text, "data.features"))
    num_few = int((~samples.usable(rows)).sum())
    return Inspection(len(rows), len(looked), num_few, remarks=remarks)


def _points(samples: LightCurveSamples, rows: np.ndarray) -> list[Remark]:
    """Look for times that go back."""
    wrong = []
    for row in rows.tolist():
        times = samples.times(row)
        if (np.diff(times[np.isfinite(times)]) < 0).any():
            wrong.append(row)
    if not wrong:
        return []
    path, number = samples.locate(wrong[0])
    text = (
        f"{len(wrong):,} of {len(rows):,} curves have times that go back, such as row {number} of {path} (target_id "
        f"{samples.target_id[wrong[0]]}); sort the points of each curve, as `hpctrain ingest light-curves` does"
    )
    return [Remark(ERROR, "unsorted", text)]


def _lengths(samples: LightCurveSamples, rows: np.ndarray, data: LightCurveSection) -> list[Remark]:
    number, remarks = samples.num_points[rows], []
    few = int((number < data.min_points).sum())
    if few == len(rows) and few:
        text = f"no training curve has {data.min_points} points in the bands {', '.join(data.bands)}"
        return [Remark(ERROR, "no-points", text, "data.min_points")]
    if few:
        text = f"{few:,} of {len(rows):,} training curves have fewer than {data.min_points} points and carry no weight"
        remarks.append(Remark(NOTE, "few-points", text, "data.min_points"))
    if long := int((number > data.max_points).sum()):
        text = (
            f"{long:,} of {len(rows):,} training curves have more than {data.max_points} points (up to "
            f"{int(number.max()):,}); of these {data.max_points} are used (data.long: {data.long})"
        )
        remarks.append(Remark(NOTE, "long-curves", text, "data.max_points"))
    return remarks


def _bands(samples: LightCurveSamples, rows: np.ndarray, data: LightCurveSection) -> list[Remark]:
    found = samples.read(rows)["band"] if len(rows) else None
    absent = [name for code, name in enumerate(data.bands) if found is None or not (found == code).any()]
    if not absent or len(absent) == len(data.bands):
        return []
    text = f"no training curve that was looked at has points in {', '.join(absent)}; check the names in data.bands"
    return [Remark(WARNING, "no-band", text, "data.bands")]
