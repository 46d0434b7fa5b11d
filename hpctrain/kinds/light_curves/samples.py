"""Light curves of one or several files as samples, read by row. N curves, P points of the longest one, F features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.batch import NO_BAND, LightCurveBatch
from hpctrain.kinds.light_curves.files import CurveFile, first_finite
from hpctrain.kinds.light_curves.statistics import statistics_columns
from hpctrain.samples.arrays import ArraySamples
from hpctrain.samples.find import find_files
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.samples.labels import take_labels
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.section import LightCurveSection

PAD_TO = 8
"""The number of points of a batch is that of its longest curve, rounded up to a multiple of this."""

_MOST_NAMED = 5
"""Largest number of files that a message names."""

LONG_CURVE = 150
"""Mean number of points of a batch from which curves are copied one by one."""


class LightCurveSamples(ArraySamples):
    """Light curves whose points are mapped files.

    Parameters
    ----------
    files : sequence of CurveFile
    data : LightCurveSection

    Attributes
    ----------
    bands : tuple of str
    feature_names : tuple of str
    features : ndarray, shape (N, F), float32
        NaN where one is missing.
    is_folded : bool
        Whether each point has a phase.
    periods : ndarray, shape (N,), float64
        Periods [day], where points have phases; NaN where there is none.
    num_points : ndarray, shape (N,), int64
        Points of each curve in the bands that are read.
    """

    def __init__(self, files: Sequence[CurveFile], data: LightCurveSection) -> None:
        target_id = np.concatenate([file.target_id for file in files])
        notes = list(dict.fromkeys(note for file in files for note in file.notes)) + _band_notes(files, data.bands)
        super().__init__([(file.path, len(file)) for file in files], target_id, {}, notes)
        self._curve_files = list(files)
        self.bands, self.feature_names = tuple(data.bands), data.all_features
        self.max_points, self.min_points, self._long = data.max_points, data.min_points, data.long
        self.num_points = np.concatenate([np.diff(file.offsets) for file in files])
        self._shifts = unit_interval(hash_ids(self.target_id, "thin")) if self._long == "thin" else np.zeros(0)
        self._begins = np.concatenate([file.offsets[:-1] for file in files])
        self._file_of = np.repeat(np.arange(len(files)), [len(file) for file in files])
        _check_statistics(files, data)
        columns = [self._numbers(name, "data.features") for name in self.feature_names]
        empty = np.zeros((len(self), 0))
        self.features = (np.stack(columns, axis=1) if columns else empty).astype(np.float32)
        self.is_folded = data.fold is not None
        self.periods = np.zeros(0) if data.fold is None else self._numbers(data.fold, "data.fold")

    def usable(self, rows: np.ndarray) -> np.ndarray:
        return self.num_points[rows] >= self.min_points

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return how many points of each of these rows (n,) are read, int64."""
        return np.minimum(self.num_points[rows], self.max_points)

    def read(self, rows: np.ndarray, pin: bool = False) -> LightCurveBatch:
        """Return these rows (n,) in their order; -1 gives a padding row.

        A curve with more than ``data.max_points`` points loses some: the choice depends on the object alone.
        """
        padding = rows == PADDING_ROW
        at = np.where(padding, 0, rows)
        counts = np.where(padding | (self.num_points[at] < self.min_points), 0, self.num_points[at])
        kept = np.minimum(counts, self.max_points)
        width = min(self.max_points, -(-max(1, int(kept.max(initial=1))) // PAD_TO) * PAD_TO)
        points = self._read_points(at, counts, kept, width)
        columns = {name: torch.from_numpy(values) for name, values in points.items()}
        if self.feature_names:
            columns["features"] = torch.from_numpy(np.where(padding[:, None], np.float32(0), self.features[at]))
        batch = LightCurveBatch(
            columns,
            torch.from_numpy(rows.astype(np.int64)),
            torch.from_numpy(np.where(padding, -1, self.target_id[at])),
            take_labels(self.labels, rows),
            self.max_points,
        )
        return batch.pin_memory() if pin else batch

    def times(self, row: int) -> np.ndarray:
        """Return the times of all points of a curve that are read, shape (n,), float64 [day]."""
        begin = self._begins[row]
        return self._curve_files[self._file_of[row]].points("time", np.arange(begin, begin + self.num_points[row]))

    def spans_and_steps(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how long these curves are, and the distances of their consecutive points that differ [day]."""
        spans, steps = [], []
        for row in rows.tolist():
            times = self.times(row)
            times = times[np.isfinite(times)]
            if len(times) > 1:
                spans.append(times[-1] - times[0])
                apart = np.diff(times)
                steps.append(apart[apart > 0])
        return np.array(spans), np.concatenate(steps) if steps else np.zeros(0)

    def _read_points(self, at: np.ndarray, counts: np.ndarray, kept: np.ndarray, width: int) -> dict[str, np.ndarray]:
        """Return the arrays (n, width) of the points."""
        out = {name: np.zeros((len(at), width), np.float32) for name in ("time", "value", "error")}
        out["band"] = np.full((len(at), width), NO_BAND, np.int16)
        if self.is_folded:
            out["phase"] = np.zeros((len(at), width), np.float32)
        thinned = np.flatnonzero(counts > kept)
        if len(thinned):
            for name, values in self._thinned(at[thinned], counts[thinned]).items():
                out[name][thinned] = values
        whole = np.where(counts > kept, 0, kept)
        # Long curves are copied one by one, the points of short ones all together: each way is faster for its curves.
        if kept.sum() > LONG_CURVE * len(kept) and not self.is_folded:
            for number in np.unique(self._file_of[at[whole > 0]]).tolist():
                here = np.flatnonzero((whole > 0) & (self._file_of[at] == number))
                self._curve_files[number].copy(out, here, self._begins[at[here]], whole[here])
        elif len(thinned) < len(at):
            place = np.arange(width) < whole[:, None]  # in the order of the points
            for name, values in self._gathered(at, whole).items():
                out[name][place] = values
        return out

    def _thinned(self, at: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return the points (n, max_points) that are kept of curves with `counts` (n,) points, which is more."""
        source = self._begins[at][:, None] + self._chosen(at, counts)
        numbers = self._file_of[at]
        file_of = None if (numbers == numbers[0]).all() else np.repeat(numbers, self.max_points)
        found = {
            name: self._take(name, numbers, file_of, source.reshape(-1)).reshape(source.shape)
            for name in ("time", "value", "error", "band")
        }
        first = found["time"][:, 0].copy()
        for index in np.flatnonzero(~np.isfinite(first)).tolist():
            first[index] = first_finite(found["time"][index])
        found["time"] = found["time"] - first[:, None]
        if self.is_folded:
            found["phase"] = _phase(found["time"], self.periods[at][:, None])
        return found

    def _gathered(self, at: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return all points of curves of `counts` (n,) points, one curve after the other."""
        before = np.cumsum(counts) - counts
        source = np.repeat(self._begins[at] - before, counts) + np.arange(int(counts.sum()))
        numbers = self._file_of[at]
        file_of = None if (numbers == numbers[:1]).all() else np.repeat(numbers, counts)
        time = self._take("time", numbers, file_of, source)
        first = np.zeros(len(counts))
        first[counts > 0] = time[before[counts > 0]]
        for index in np.flatnonzero(~np.isfinite(first)).tolist():
            first[index] = first_finite(time[before[index] : before[index] + counts[index]])
        found = {"time": time - np.repeat(first, counts)}
        if self.is_folded:
            found["phase"] = _phase(found["time"], np.repeat(self.periods[at], counts))
        return found | {name: self._take(name, numbers, file_of, source) for name in ("value", "error", "band")}

    def _take(self, name: str, numbers: np.ndarray, file_of: np.ndarray | None, source: np.ndarray) -> np.ndarray:
        """Return one number of the points `source`.

        Parameters
        ----------
        name : str
        numbers : ndarray, shape (n,)
            File of each curve.
        file_of : ndarray, shape of `source`, or None
            File of each point; None if there is one file.
        source : ndarray, int64
            Numbers of the points in their files.
        """
        if file_of is None:
            return self._curve_files[numbers[0] if len(numbers) else 0].points(name, source)
        taken = np.empty(len(source), np.float64 if name == "time" else np.float32)
        for number in np.unique(numbers).tolist():
            here = file_of == number
            taken[here] = self._curve_files[number].points(name, source[here])
        return taken

    def _chosen(self, at: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which of the `counts` (n,) points of long curves are kept, shape (n, max_points), rising."""
        number = np.arange(self.max_points)
        if self._long == "first":
            return np.tile(number, (len(at), 1))
        if self._long == "last":
            return (counts - self.max_points)[:, None] + number
        # One point from each of as many equal parts; where in its part depends on the object alone.
        size = (counts / self.max_points)[:, None]
        return np.minimum(((number + self._shifts[at][:, None]) * size).astype(np.int64), counts[:, None] - 1)

    def _numbers(self, name: str, key: str) -> np.ndarray:
        values = self.column(name)
        if values.dtype.kind == "O":
            raise DataError(f"{self._files[0][0]}: {name}: holds texts such as {values[0]!r}; {key} needs numbers")
        values = values.astype(np.float64)
        if key == "data.fold":
            return np.where(np.isfinite(values) & (values > 0), values, np.nan)
        return np.where(np.isfinite(values), values, np.nan)


def _phase(time: np.ndarray, period: np.ndarray) -> np.ndarray:
    cycles = time / period
    return cycles - np.floor(cycles)


def open_light_curves(data: LightCurveSection, base: Path | None = None) -> LightCurveSamples:
    """Open the files of a ``data`` section as one set.

    Raises
    ------
    DataError
        Files are missing or damaged, lack columns, or have none of the bands; the message names all of them.
    """
    problems: list[str] = []
    paths = find_files(data.files, base or Path())
    files = [_collect(lambda path=path: CurveFile(path, data.bands), problems) for path in paths]
    if problems:
        raise DataError("\n".join(problems))
    known = sorted({name for file in files for name in file.names})
    if not set(known) & set(data.bands):
        raise DataError(
            f"{paths[0]}: has none of the bands {', '.join(data.bands)} (data.bands); it has {', '.join(known)}"
        )
    return LightCurveSamples(files, data)


def _collect(make: Callable[[], Any], problems: list[str]) -> Any:
    try:
        return make()
    except DataError as error:
        problems.append(str(error))
        return None


def _check_statistics(files: Sequence[CurveFile], data: LightCurveSection) -> None:
    names = statistics_columns(data.statistics, data.bands)
    lacking = [(file.path, name) for file in files for name in names if name not in file.columns]
    if lacking:
        paths = list(dict.fromkeys(str(path) for path, _ in lacking))
        absent = list(dict.fromkeys(name for _, name in lacking))
        more = f" and {len(absent) - 1} more columns" if len(absent) > 1 else ""
        option = " --periods DAYS" if data.statistics == "periodic" else ""
        raise DataError(
            f"{', '.join(paths[:_MOST_NAMED])}: no {absent[0]}{more}, which data.statistics: {data.statistics} reads; "
            f"write the files with `hpctrain ingest light-curves --statistics{option}`"
        )


def _band_notes(files: Sequence[CurveFile], bands: Sequence[str]) -> list[str]:
    left_out: dict[str, int] = {}
    for file in files:
        for name, count in file.left_out.items():
            left_out[name] = left_out.get(name, 0) + count
    notes = []
    if left_out:
        told = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
        notes.append(f"points of bands that are not among data.bands are left out: {told}")
    known = {name for file in files for name in file.names}
    if absent := [name for name in bands if name not in known]:
        notes.append(
            f"no file has points in {', '.join(absent)} (data.bands); the files have {', '.join(sorted(known))}"
        )
    return notes
