"""Read files of observations and write one file of light curves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.credentials.hide import own_command
from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.assemble import assemble
from hpctrain.ingest.light_curves.labels import ObjectTable
from hpctrain.ingest.light_curves.observations import Observations, Reading
from hpctrain.ingest.light_curves.periods import find_periods
from hpctrain.ingest.light_curves.readers import read_observations
from hpctrain.ingest.light_curves.statistics import find_statistics
from hpctrain.ingest.tally import lines_by_reason
from hpctrain.kinds.light_curves.layout import write_curves


@dataclass(frozen=True)
class CurvesPlan:
    """What one call reads and writes.

    Parameters
    ----------
    paths : sequence of Path
    out : Path
    reading : Reading
    labels : Path or None
        Table with a row per object.
    labels_id : str
        Its column of identifiers; empty to find it.
    missing : sequence of float
        Numbers that mean "no value".
    shortest_period : float or None
        Find periods that are not shorter [day]; None finds none.
    statistics : bool
        Whether to add the columns that ``data.statistics`` reads.
    """

    paths: Sequence[Path]
    out: Path
    reading: Reading
    labels: Path | None = None
    labels_id: str = ""
    missing: Sequence[float] = ()
    shortest_period: float | None = None
    statistics: bool = False


@dataclass
class CurvesResult:
    """What became of the observations.

    Parameters
    ----------
    num_files, num_read, num_points, num_curves, num_empty : int
        Files and observations that were read; points and curves that were written; objects without a usable point.
    dropped : Counter of str
        Observations that were left out, by reason.
    points_of_band : dict of str to int
    lengths : tuple of int
        Smallest, median and largest number of points of a curve.
    columns : dict of str to int
        How many objects have a value of each column.
    failed_files : list of (str, str)
        Files that could not be read, and why.
    notes : list of str
    seconds : float
    """

    num_files: int
    num_read: int
    num_points: int
    num_curves: int
    num_empty: int
    dropped: Counter[str]
    points_of_band: dict[str, int]
    lengths: tuple[int, int, int]
    columns: dict[str, int]
    failed_files: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        files = [{"file": path, "reason": reason} for path, reason in self.failed_files]
        return {**vars(self), "dropped": dict(self.dropped), "failed_files": files}


def ingest_light_curves(plan: CurvesPlan) -> CurvesResult:
    """Read the files, and write the light curves; the output exists whole or not at all.

    Raises
    ------
    DataError
        No file can be read, a label has several values, or nothing can be used.
    """
    started = time.perf_counter()
    table = None
    if plan.labels is not None:
        table = ObjectTable(plan.labels, plan.labels_id, plan.reading.labels)
    # Labels come from the table if there is one, else from the files themselves.
    reading = plan.reading if table is None else Reading(**{**vars(plan.reading), "labels": {}})
    parts, failed = _read_all(plan.paths, reading)
    found = assemble(parts, plan.missing, None if table is None else table.columns_for)
    curves = found.curves
    if plan.shortest_period is not None:
        curves = replace(curves, columns={**curves.columns, **find_periods(curves, plan.shortest_period)})
    if plan.statistics:
        curves = replace(curves, columns={**curves.columns, **find_statistics(curves, plan.shortest_period)})
    command = " ".join(["hpctrain", *own_command()[1:]])
    write_curves(plan.out, curves, {"hpctrain_version": __version__, "command": command})
    per_curve = np.diff(curves.offsets)
    counts = np.bincount(curves.band, minlength=len(curves.bands))
    return CurvesResult(
        num_files=len(parts),
        num_read=found.num_read,
        num_points=len(curves.time),
        num_curves=len(per_curve),
        num_empty=found.empty,
        dropped=found.dropped,
        points_of_band=dict(zip(curves.bands, counts.tolist(), strict=True)),
        lengths=(int(per_curve.min()), int(np.median(per_curve)), int(per_curve.max())),
        columns={name: _num_known(values) for name, values in curves.columns.items()},
        failed_files=failed,
        notes=found.notes,
        seconds=time.perf_counter() - started,
    )


def _read_all(paths: Sequence[Path], reading: Reading) -> tuple[list[Observations], list[tuple[str, str]]]:
    parts, failed = [], []
    for path in paths:
        try:
            parts.append(read_observations(path, reading))
        except DataError as error:
            failed.append((str(path), str(error).removeprefix(f"{path}: ")))
    if not parts:
        raise DataError("\n  ".join(["no file could be read:", *lines_by_reason(failed)]))
    return parts, failed


def _num_known(values: np.ndarray) -> int:
    if values.dtype.kind == "O":
        return int(np.count_nonzero(values.astype(str) != ""))
    return int(np.isfinite(values.astype(np.float64)).sum())
