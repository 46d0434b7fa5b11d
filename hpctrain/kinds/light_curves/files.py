"""One file of light curves: find and check its datasets, and map its points into memory. No torch here.

N curves, P points, B bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.layout import BANDS, OFFSETS, POINTS, TARGET_ID
from hpctrain.profile.near import did_you_mean
from hpctrain.samples.elsewhere import check_sources
from hpctrain.samples.library import open_library_file
from hpctrain.samples.mapped import MappedFile
from hpctrain.samples.target_id import read_target_id

DAMAGED = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What h5py raises about damaged files."""


class CurveFile:
    """The light curves of one file.

    Parameters
    ----------
    path : Path
    bands : sequence of str
        Bands to read; points in others are left out.

    Attributes
    ----------
    offsets : ndarray, shape (N + 1,), int64
        First point of each curve, among the points that are read.
    band_of : ndarray, shape (B,), int16
        Number in `bands` of each band of the file; -1 for one that is left out.
    left_out : dict of str to int
        Bands that are left out, and how many points they have.
    target_id : ndarray, shape (N,), int64
    columns : frozenset of str
        Names of all datasets of the file.
    notes : list of str

    Raises
    ------
    DataError
        The file is no file of light curves, or is damaged; the message names all problems.
    """

    def __init__(self, path: Path, bands: Sequence[str]) -> None:
        self.path = path
        self._mapped = MappedFile(path)
        with open_library_file(path) as file:
            try:
                self._check_names(file)
                self.columns = frozenset(file)
                self.names = [_text(name) for name in file[BANDS][...].tolist()]
                self.stored_offsets = file[OFFSETS][...].astype(np.int64)
                self.target_id, self.notes = read_target_id(file[TARGET_ID])
                self._points = {name: self._open(file[name]) for name in POINTS}
            except DAMAGED as error:
                raise DataError(f"{path}: cannot be read ({error}); the file is damaged") from error
        self._check_shapes()
        self._choose(bands)

    def __len__(self) -> int:
        return len(self.target_id)

    def points(self, name: str, at: np.ndarray) -> np.ndarray:
        """Return one number of some points.

        Parameters
        ----------
        name : str
            ``time``, ``value``, ``error`` or ``band``; the last is the number in the bands that are read.
        at : ndarray, shape (n,), int64
            Numbers of points, as `offsets` counts them.

        Raises
        ------
        DataError
            The file has been changed since it was opened.
        """
        self._mapped.check()
        taken = self._points[name].take(at if self._kept is None else self._kept.take(at))
        return self.band_of.take(taken) if name == "band" and not self._same_bands else taken

    def copy(self, out: Mapping[str, np.ndarray], rows: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> None:
        """Copy consecutive points of some curves; times count from the first point of the curve.

        Parameters
        ----------
        out : mapping of str to ndarray, shape (n, width)
            Arrays by the names of :meth:`points`, whose rows are filled from their beginning.
        rows, begins, counts : ndarray, shape (m,), int64
            Row of `out`, first point and number of points of each curve; no curve is empty.
        """
        self._mapped.check()
        shape = out["time"].shape
        # Slices of one axis: a pair of indices takes longer than the copy of some hundred points.
        places = list(map(slice, (rows * shape[1]).tolist(), (rows * shape[1] + counts).tolist()))
        pieces = list(map(slice, begins.tolist(), (begins + counts).tolist()))
        for name in ("value", "error", "band"):
            self._copy_pieces(name, out[name].reshape(-1), places, pieces)
        first = np.zeros(shape[0])
        first[rows] = self.points("time", begins)
        for index in np.flatnonzero(~np.isfinite(first[rows])).tolist():
            first[rows[index]] = first_finite(self._piece("time", pieces[index]))
        # Where there is no point, the first time minus itself is 0.
        time = np.repeat(first, shape[1])
        self._copy_pieces("time", time, places, pieces)
        if len(rows) == shape[0]:
            np.subtract(time.reshape(shape), first[:, None], out=out["time"], casting="same_kind")
        else:
            out["time"][rows] = time.reshape(shape)[rows] - first[rows, None]

    def _copy_pieces(self, name: str, out: np.ndarray, places: Sequence[slice], pieces: Sequence[slice]) -> None:
        source = self._points[name]
        if self._kept is None and (name != "band" or self._same_bands):
            for place, piece in zip(places, pieces, strict=True):
                out[place] = source[piece]
        else:
            for place, piece in zip(places, pieces, strict=True):
                out[place] = self._piece(name, piece)

    def _piece(self, name: str, piece: slice) -> np.ndarray:
        return self.points(name, np.arange(piece.start, piece.stop))

    def _open(self, dataset: h5py.Dataset) -> np.ndarray:
        """Return a dataset (P,) as a map of the file where it is stored in one piece, else as an array in memory."""
        where = f"{self.path}: {dataset.name.lstrip('/')}"
        check_sources(dataset, where)
        if dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
            raise DataError(
                f"{where}: has shape {dataset.shape} and type {dataset.dtype}; one number per point is needed"
            )
        offset = None if dataset.chunks is not None or dataset.is_virtual else dataset.id.get_offset()
        if offset is None or not dataset.dtype.isnative:
            return dataset[...]
        end = offset + dataset.size * dataset.dtype.itemsize
        if end > self._mapped.num_bytes:
            raise DataError(f"{where}: ends beyond the end of the file; it is truncated")
        return self._mapped.bytes[offset:end].view(dataset.dtype)

    def _check_names(self, file: h5py.File) -> None:
        needed = (OFFSETS, *POINTS, BANDS, TARGET_ID)
        lacking = [name for name in needed if not isinstance(file.get(name), h5py.Dataset)]
        if lacking:
            near = did_you_mean(lacking[0], list(file))
            raise DataError(
                f"{self.path}: has no {', '.join(lacking)}{near}; it is no file of light curves. `hpctrain ingest "
                "light-curves` makes one from tables, SNANA files and alerts"
            )

    def _check_shapes(self) -> None:
        offsets, num_points = self.stored_offsets, len(self._points["time"])
        problems = []
        for name, values in self._points.items():
            if len(values) != num_points:
                problems.append(f"{name}: has {len(values):,} values, but time has {num_points:,}")
        if offsets.shape != (len(self.target_id) + 1,):
            problems.append(
                f"offsets: has shape {offsets.shape}; {len(self.target_id):,} curves need one more than that"
            )
        elif offsets[0] != 0 or offsets[-1] != num_points or (np.diff(offsets) < 0).any():
            problems.append(f"offsets: must rise from 0 to the number of points, {num_points:,}")
        if len(set(self.names)) != len(self.names) or not self.names:
            problems.append(f"bands: are {', '.join(self.names) or 'none'}; each band needs one name")
        band = self._points["band"]
        if len(band) and not 0 <= int(band.min()) <= int(band.max()) < len(self.names):
            problems.append(
                f"band: holds {int(band.min())} to {int(band.max())}; the {len(self.names)} names in bands are counted "
                "from 0"
            )
        if problems:
            raise DataError("\n".join(f"{self.path}: {problem}" for problem in problems))

    def _choose(self, bands: Sequence[str]) -> None:
        """Leave out the points of bands that are not asked for."""
        self.band_of = np.array([bands.index(name) if name in bands else -1 for name in self.names], dtype=np.int16)
        self._same_bands = self.band_of.tolist() == list(range(len(self.names)))
        self.offsets, self._kept, self.left_out = self.stored_offsets, None, {}
        if (self.band_of >= 0).all():
            return
        numbers = np.asarray(self._points["band"])
        is_kept = self.band_of[numbers] >= 0
        counts = np.bincount(numbers, minlength=len(self.names))
        self.left_out = {
            name: int(count)
            for name, code, count in zip(self.names, self.band_of, counts, strict=True)
            if code < 0 and count
        }
        self._kept = np.flatnonzero(is_kept)
        self.offsets = np.concatenate([[0], np.cumsum(is_kept)])[self.stored_offsets].astype(np.int64)


def first_finite(time: np.ndarray) -> float:
    """Return the first finite time of a curve (n,); 0 if there is none."""
    finite = time[np.isfinite(time)]
    return float(finite[0]) if len(finite) else 0.0


def _text(value: object) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
