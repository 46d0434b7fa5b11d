"""HDF5 files of spectra, images, light curves and tables as blocks of columns. N rows; no torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.expectations.sources import Declared, Source, as_columns, rows_at_once
from hpctrain.expectations.summaries import Columns, of_curves, of_images, of_spectra
from hpctrain.kinds.images.layout import OTHER_NAMES as IMAGE_NAMES
from hpctrain.kinds.light_curves.layout import BANDS, OFFSETS, POINTS
from hpctrain.kinds.spectra.layout import OTHER_NAMES as SPECTRA_NAMES
from hpctrain.samples.library import DAMAGE, damage_named, open_library_file

NOISE_ROWS = 512
"""Number of spectra whose noise is looked at, about."""
_UNITS = ("unit", "units", "UNIT", "UNITS")


def open_hdf5(path: Path) -> Source:
    """Open an HDF5 file of any kind.

    Raises
    ------
    DataError
        The file is damaged, or has no dataset with a value per object.
    """
    with damage_named(path), open_library_file(path) as file:
        found: dict[str, h5py.Dataset] = {}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.shape and not item.dtype.names:
                found[name] = item

        file.visititems(visit)
        if not found:
            raise DataError(f"{path}: has no dataset with one value per object")
        if OFFSETS in found and set(POINTS) <= set(found):
            return CurvesSource(path, found)
        flux, ivar = (_named(found, SPECTRA_NAMES, role, 2) for role in ("flux", "ivar"))
        if flux and ivar and found[flux].shape == found[ivar].shape:
            return SpectraSource(path, found, flux, ivar)
        image = _named(found, IMAGE_NAMES, "image", 3)
        return ImagesSource(path, found, image) if image else Hdf5Source(path, found, "catalogue")


def _named(found: dict[str, h5py.Dataset], names: dict[str, tuple[str, ...]], role: str, fewest_axes: int) -> str:
    for name in (role, *names.get(role, ())):
        if name in found and found[name].ndim >= fewest_axes and found[name].dtype.kind in "iuf":
            return name
    return ""


class Hdf5Source(Source):
    """Datasets whose first axis has the same length."""

    def __init__(self, path: Path, found: dict[str, h5py.Dataset], kind: str, num_rows: int | None = None) -> None:
        super().__init__(path, kind)
        if num_rows is None:
            lengths = Counter(each.shape[0] for each in found.values())
            num_rows = max(lengths, key=lambda length: (lengths[length], length))
        self.num_rows = num_rows
        self.plain: list[str] = []
        row_bytes = 0
        for name, dataset in found.items():
            is_text = h5py.check_string_dtype(dataset.dtype) is not None or dataset.dtype.kind == "S"
            if dataset.shape[0] != num_rows or (h5py.check_vlen_dtype(dataset.dtype) is not None and not is_text):
                continue
            if dataset.dtype.kind not in "biufSO" or (is_text and dataset.ndim > 1):
                continue
            dtype = "text" if is_text else dataset.dtype.newbyteorder("=").name
            self.declared[name] = Declared(dtype, _unit(dataset), dataset.shape[1:])
            self.plain.append(name)
            row_bytes += (32 if dataset.dtype.kind == "O" else dataset.dtype.itemsize) * int(np.prod(dataset.shape[1:]))
        self.at_once = rows_at_once(2 * row_bytes)

    def blocks(self) -> Iterator[Columns]:
        with open_library_file(self.path) as file:
            for start in range(0, max(1, self.num_rows), self.at_once):
                end = min(start + self.at_once, self.num_rows)
                found: Columns = {}
                for name in self.plain:
                    found |= as_columns(name, self.take(file, name, start, end))
                found |= self.more(file, start, end)
                yield found

    def more(self, file: h5py.File, start: int, end: int) -> Columns:
        """Return the columns that stand for what is not among `plain`."""
        return {}

    def take(self, file: h5py.File, name: str, start: int, end: int) -> np.ndarray:
        """Return some rows of a dataset.

        Raises
        ------
        DataError
            They cannot be read.
        """
        try:
            return file[name][start:end]
        except DAMAGE as error:
            what = f"rows {start:,} to {end - 1:,} cannot be read ({error})"
            raise DataError(f"{self.path}: {name}: {what}; the file is damaged") from error


class SpectraSource(Hdf5Source):
    """Spectra: flux and ivar of L pixels."""

    def __init__(self, path: Path, found: dict[str, h5py.Dataset], flux: str, ivar: str) -> None:
        super().__init__(path, found, "spectra", found[flux].shape[0])
        mask = next((name for name in ("mask", *SPECTRA_NAMES["mask"]) if name in found), "")
        has_mask = bool(mask) and found[mask].shape == found[flux].shape
        self._roles = (flux, ivar, mask if has_mask else "")
        wavelength = next((name for name in ("wavelength", *SPECTRA_NAMES["wavelength"]) if name in found), "")
        self.plain = [name for name in self.plain if name not in (*self._roles, wavelength)]
        if wavelength:
            self.grid = self._common_grid(found[wavelength], found[flux].shape[1])
            self.declared.setdefault(wavelength, Declared(None, _unit(found[wavelength])))
        self.at_once = min(self.at_once, rows_at_once(24 * found[flux].shape[1]))
        self._noise_step = max(1, self.num_rows // NOISE_ROWS)

    def _common_grid(self, dataset: h5py.Dataset, num_pixels: int) -> np.ndarray | None:
        if dataset.shape == (num_pixels,):
            return dataset[...].astype(np.float64)
        if dataset.ndim != 2 or not len(dataset):
            return None
        ends = dataset[[0, len(dataset) - 1]] if len(dataset) > 1 else dataset[:1]
        return ends[0].astype(np.float64) if np.array_equal(ends[0], ends[-1]) else None

    def more(self, file: h5py.File, start: int, end: int) -> Columns:
        flux, ivar, mask = (self.take(file, name, start, end) if name else None for name in self._roles)
        chosen = np.arange(-start % self._noise_step, end - start, self._noise_step)
        if len(chosen):
            good = (ivar[chosen] > 0) & np.isfinite(ivar[chosen]) & np.isfinite(flux[chosen])
            self.noise_sample.append((np.where(good, flux[chosen], 0), np.where(good, ivar[chosen], 0)))
        return of_spectra(flux, ivar, mask)


class ImagesSource(Hdf5Source):
    """Images of B bands."""

    def __init__(self, path: Path, found: dict[str, h5py.Dataset], image: str) -> None:
        super().__init__(path, found, "images", found[image].shape[0])
        shape = found[image].shape
        self._image = image
        self._bands_last = len(shape) == 4 and shape[3] < shape[1]
        num_bands = 1 if len(shape) == 3 else shape[3] if self._bands_last else shape[1]
        self._bands = tuple(str(place) for place in range(num_bands))
        names = next((name for name in ("bands", *IMAGE_NAMES["bands"]) if name in found), "")
        if names and found[names].shape == (num_bands,):
            self._bands = tuple(_text(each) for each in found[names][...].tolist())
        self.plain = [name for name in self.plain if name not in (image, names)]

    def more(self, file: h5py.File, start: int, end: int) -> Columns:
        images = self.take(file, self._image, start, end)
        images = images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1) if self._bands_last else images
        return of_images("image", images, self._bands)


class CurvesSource(Hdf5Source):
    """Light curves: points of all curves one after the other, and the offsets of each curve."""

    def __init__(self, path: Path, found: dict[str, h5py.Dataset]) -> None:
        points = {name: found[name] for name in POINTS}
        others = {name: each for name, each in found.items() if name not in (*POINTS, OFFSETS, BANDS)}
        super().__init__(path, others, "light_curves", found[OFFSETS].shape[0] - 1)
        self._offsets = found[OFFSETS][...].astype(np.int64)
        num_points = len(points["time"])
        if len({len(each) for each in points.values()}) > 1 or (np.diff(self._offsets) < 0).any():
            raise DataError(f"{path}: its points and offsets do not fit together; the file is damaged")
        if len(self._offsets) < 2 or self._offsets[0] < 0 or self._offsets[-1] > num_points:
            raise DataError(f"{path}: its offsets lie beyond its {num_points:,} points; the file is damaged")
        self._bands = tuple(_text(each) for each in found[BANDS][...].tolist()) if BANDS in found else ()
        for name, dataset in points.items():
            self.declared[name] = Declared(dataset.dtype.newbyteorder("=").name, _unit(dataset))
        self.at_once = min(self.at_once, rows_at_once(64 * max(1, num_points // max(1, self.num_rows))))

    def more(self, file: h5py.File, start: int, end: int) -> Columns:
        offsets = self._offsets[start : end + 1]
        points = {name: self.take(file, name, int(offsets[0]), int(offsets[-1])) for name in POINTS}
        return of_curves(offsets - offsets[0], points, self._bands)


def _unit(dataset: h5py.Dataset) -> str:
    return next((_text(dataset.attrs[key]).strip() for key in _UNITS if key in dataset.attrs), "")


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
