"""Light curves of one or several files as samples, read by row. N curves, P points of the longest one, F features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.batch import NO_BAND, LightCurveBatch
from hpctrain.kinds.light_curves.files import CurveFile
from hpctrain.samples.arrays import ArraySamples
from hpctrain.samples.find import find_files
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.samples.labels import take_labels
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.section import LightCurveSection

PAD_TO = 8
"""The number of points of a batch is that of its longest curve, rounded up to a multiple of this."""


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
        self.bands, self.feature_names = tuple(data.bands), tuple(data.features)
        self.max_points, self.min_points, self._long = data.max_points, data.min_points, data.long
        self.num_points = np.concatenate([np.diff(file.offsets) for file in files])
        self._begins = np.concatenate([file.offsets[:-1] for file in files])
        self._file_of = np.repeat(np.arange(len(files)), [len(file) for file in files])
        columns = [self._numbers(name, "data.features") for name in data.features]
        empty = np.zeros((len(self), 0))
        self.features = (np.stack(columns, axis=1) if columns else empty).astype(np.float32)
        self.is_folded = data.fold is not None
        self.periods = np.zeros(0) if data.fold is None else self._numbers(data.fold, "data.fold")

    def usable(self, rows: np.ndarray) -> np.ndarray:
        return self.num_points[rows] >= self.min_points

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
            self.max_points,
            take_labels(self.labels, rows),
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
        num, total = len(at), int(kept.sum())
        before = np.cumsum(kept) - kept
        place = np.arange(total)
        into = np.repeat(np.arange(num) * width - before, kept) + place
        source = np.repeat(self._begins[at] - before, kept) + place
        for index in np.flatnonzero(counts > kept).tolist():
            chosen = self._chosen(int(at[index]), int(counts[index]))
            source[before[index] : before[index] + kept[index]] = self._begins[at[index]] + chosen
        out = {
            "time": np.zeros(num * width, np.float32),
            "value": np.zeros(num * width, np.float32),
            "error": np.zeros(num * width, np.float32),
            "band": np.full(num * width, NO_BAND, np.int64),
        }
        time = self._take("time", at, kept, source, np.float64)
        first = _first_finite(time, before, kept)
        out["time"][into] = time - np.repeat(first, kept)
        for name, dtype in (("value", np.float32), ("error", np.float32), ("band", np.int64)):
            out[name][into] = self._take(name, at, kept, source, dtype)
        if self.is_folded:
            out["phase"] = np.zeros(num * width, np.float32)
            cycles = (time - np.repeat(first, kept)) / np.repeat(self.periods[at], kept)
            out["phase"][into] = cycles - np.floor(cycles)
        return {name: values.reshape(num, width) for name, values in out.items()}

    def _take(self, name: str, at: np.ndarray, kept: np.ndarray, source: np.ndarray, dtype: Any) -> np.ndarray:
        """Return one number of the points `source` of the curves `at`, in their order."""
        numbers = np.unique(self._file_of[at])
        if len(numbers) == 1:
            return self._curve_files[numbers[0]].points(name, source)
        taken, file_of_point = np.empty(len(source), dtype), np.repeat(self._file_of[at], kept)
        for number in numbers.tolist():
            here = file_of_point == number
            taken[here] = self._curve_files[number].points(name, source[here])
        return taken

    def _chosen(self, row: int, count: int) -> np.ndarray:
        """Return which of the `count` points of a long curve are kept, shape (max_points,), rising."""
        most = self.max_points
        if self._long == "first":
            return np.arange(most)
        if self._long == "last":
            return np.arange(count - most, count)
        # One point from each of as many equal parts; where in its part depends on the object alone.
        shift = unit_interval(hash_ids(self.target_id[row : row + 1], "thin"))[0]
        return np.minimum(((np.arange(most) + shift) * (count / most)).astype(np.int64), count - 1)

    def _numbers(self, name: str, key: str) -> np.ndarray:
        values = self.column(name)
        if values.dtype.kind == "O":
            raise DataError(f"{self._files[0][0]}: {name}: holds texts such as {values[0]!r}; {key} needs numbers")
        values = values.astype(np.float64)
        if key == "data.fold":
            return np.where(np.isfinite(values) & (values > 0), values, np.nan)
        return np.where(np.isfinite(values), values, np.nan)


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


def _first_finite(time: np.ndarray, before: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the first finite time of each curve, shape (n,); 0 where there is none."""
    first = np.zeros(len(kept))
    first[kept > 0] = time[before[kept > 0]]
    for index in np.flatnonzero(~np.isfinite(first)).tolist():
        own = time[before[index] : before[index] + kept[index]]
        own = own[np.isfinite(own)]
        first[index] = own[0] if len(own) else 0.0
    return first


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
