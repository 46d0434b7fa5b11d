"""Spectra that are arrays in memory, in the place of a file: the same checks and rules as the reader. No torch here.

N spectra, L pixels. The arrays are converted a batch at a time, so that they may be memory maps of large files.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.redshift import is_redshift
from hpctrain.kinds.spectra.wavelength import common_grid, fill_padding, is_wavelength, mend_grids
from hpctrain.samples.protocols import PADDING_ROW
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.batch import SpectraBatch

REQUIRED = ("flux", "ivar", "wavelength", "redshift")
NAMES = (*REQUIRED, "target_id", "mask")

_FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
_LIKELY = {
    "ivar": ("inverse_variance", "weight", "weights", "error", "sigma", "err"),
    "wavelength": ("lambda", "wave", "loglam", "wavelength_aa"),
    "redshift": ("z", "zbest", "z_hp"),
}
"""Names, in lower case, under which a table may hold what is missing."""


@dataclass(frozen=True)
class Values:
    """One argument: plain numbers, what is masked, and the factor to our unit.

    Parameters
    ----------
    data : ndarray
    mask : ndarray of bool, same shape, or None
    factor : float
    """

    data: np.ndarray
    mask: np.ndarray | None = None
    factor: float = 1.0

    def take(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return rows as float32 in our unit, and what is masked in them."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.data[rows]
            values = (values * self.factor if self.factor != 1.0 else values).astype(np.float32)
        return values, None if self.mask is None else self.mask[rows]


class SpectraArrays:
    """Spectra in arrays, with the methods of :class:`~hpctrain.kinds.spectra.hdf5.SpectraSet`.

    Parameters
    ----------
    columns : mapping
        ``flux``, ``ivar`` (N, L) or (L,) for one spectrum; ``wavelength`` (L,) or (N, L), vacuum [AA]; ``redshift``
        (N,) or a number; and if you like ``target_id`` (N,), ``mask`` (N, L), nonzero where a pixel is bad. Arrays,
        masked arrays, or quantities and columns with a unit of astropy. Other entries are ignored.
    needs_redshift : bool
        Whether ``redshift`` must be given, and a spectrum without one carries no weight.

    Attributes
    ----------
    num_pixels : int
        L.
    wavelength_aa : ndarray, shape (L,), float64, or None
        None if rows have different grids.
    target_id : ndarray, shape (N,), int64
        The number of the row where none was given.
    redshift : ndarray, shape (N,), float32
        As given; see `has_redshift`.
    has_redshift : ndarray, shape (N,), bool

    Raises
    ------
    DataError
        Arrays are missing, have the wrong shape or an impossible unit; the message names all of them.
    """

    decoded_bytes = 0
    is_prepared_ahead = False
    batches_together = 1

    def __init__(self, columns: Mapping[str, Any], needs_redshift: bool = True) -> None:
        names = list(columns.keys())  # a Table iterates over its rows
        if not needs_redshift and "redshift" not in names:
            columns = {"redshift": np.float32(np.nan), **{name: columns[name] for name in names}}
        given = _checked(columns)
        self.needs_redshift = needs_redshift
        self.labels: Mapping[str, np.ndarray] = {}
        self.notes: list[str] = []
        self._flux, self._ivar, self._mask = given["flux"], given["ivar"], given.get("mask")
        self._wavelength = given["wavelength"]
        num_rows, self.num_pixels = self._flux.data.shape
        self.redshift, masked = given["redshift"].take(slice(None))
        self.has_redshift = is_redshift(self.redshift) & (True if masked is None else ~masked)
        self.target_id = np.arange(num_rows, dtype=np.int64)
        if "target_id" in given:
            self.target_id, self.notes = ids_of(given["target_id"].data, "target_id")
        self.wavelength_aa, self._padding = self._common_grid()

    def __len__(self) -> int:
        return len(self._flux.data)

    def _common_grid(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the grid of all rows, if there is one, and its pixels without a wavelength."""
        values = self._wavelength
        if values.mask is not None:  # as a pixel without a wavelength
            values = Values(np.where(values.mask, np.nan, values.data.astype(np.float64)), None, values.factor)
            self._wavelength = values
        first = values.data.reshape(-1, self.num_pixels)[0] * values.factor
        grid = common_grid(first if values.data.ndim == 1 else _Scaled(values), "wavelength")
        return (None, None) if grid is None else (fill_padding(grid), ~is_wavelength(grid))

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return some spectra as the reader returns those of a file.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64

        Returns
        -------
        flux, ivar : ndarray, shape (n, L), float32
            Of pixels that are masked, or that belong to a spectrum without a redshift, ivar is 0.
        wavelength_aa : ndarray, shape (L,) or (n, L), float32
        """
        flux, flux_mask = self._flux.take(rows)
        ivar, ivar_mask = self._ivar.take(rows)
        bad = [mask for mask in (flux_mask, ivar_mask) if mask is not None]
        if self._mask is not None:
            bad += [self._mask.data[rows] != 0]
        if self.wavelength_aa is None:
            grid, padding = self._grids(rows)
            bad.append(padding)
        else:
            grid = self.wavelength_aa.astype(np.float32)
            bad.append(np.broadcast_to(self._padding, ivar.shape))
        ivar[np.logical_or.reduce(bad)] = 0.0
        no_weight = ~self.usable(rows)
        flux[no_weight], ivar[no_weight] = 0.0, 0.0
        return flux, ivar, grid

    def _grids(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grids, _ = self._wavelength.take(rows)
        padding, backwards = mend_grids(grids)
        if backwards is not None:
            raise DataError(f"wavelength: that of row {rows[backwards]} does not increase")
        return grids, padding

    def read(self, rows: np.ndarray, pin: bool = False) -> SpectraBatch:
        """Return spectra as one batch; -1 gives a padding row, without flux and weight."""
        import torch

        from hpctrain.kinds.spectra.batch import SpectraBatch

        rows = np.ascontiguousarray(rows, dtype=np.int64)
        padding = rows == PADDING_ROW
        at = np.where(padding, 0, rows)
        flux, ivar, grid = self.take(at)
        flux[padding], ivar[padding] = 0.0, 0.0
        redshift = np.where(padding | ~self.has_redshift[at], np.float32(0), self.redshift[at])
        batch = SpectraBatch(
            flux=torch.from_numpy(flux),
            ivar=torch.from_numpy(ivar),
            wavelength_aa=torch.from_numpy(grid),
            redshift=torch.from_numpy(redshift),
            target_id=torch.from_numpy(np.where(padding, -1, self.target_id[at])),
            row=torch.from_numpy(rows.copy()),
        )
        return batch.pin_memory() if pin else batch

    def column(self, name: str) -> np.ndarray:
        """Raise a DataError: arrays are given to be predicted, and their labels are not asked for."""
        raise DataError(f"{name}: arrays in memory have no such column")

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return, for each of these rows (n,), whether it has a redshift, if it needs one."""
        return self.has_redshift[rows] | (not self.needs_redshift)

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return [0]: nothing is decoded."""
        return np.zeros(1, np.int64)

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Do nothing: nothing is decoded."""

    def prepare(self, rows: np.ndarray) -> None:
        """Do nothing: nothing is decoded."""

    def batches_ahead(self, batch_size: int) -> int:
        """Return 0."""
        return 0

    def locate(self, row: int) -> tuple[Path, int]:
        """Return a name for the arrays, and the row."""
        return Path("arrays"), row

    def fingerprint(self) -> dict[str, Any]:
        """Return the counts: arrays have no file."""
        return {"num_spectra": len(self), "num_pixels": self.num_pixels, "files": []}

    def close(self) -> None:
        """Do nothing."""


class _Scaled:
    """Rows of wavelengths in our unit, converted where they are read."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.ndim, self.shape, self.size = values.data.ndim, values.data.shape, values.data.size
        self.dtype = values.data.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        values = self._values.data[rows]
        return values * self._values.factor if self._values.factor != 1.0 else values


def _checked(columns: Mapping[str, Any]) -> dict[str, Values]:
    """Return the arrays that are needed; raise all problems at once."""
    names = list(columns.keys())
    problems = [_missing(name, names) for name in REQUIRED if name not in names]
    found: dict[str, Values] = {}
    for name in NAMES:
        if name in names and columns[name] is not None:
            try:
                found[name] = _values(name, columns[name])
            except DataError as error:
                problems.append(str(error))
    if not problems and ("flux" in found) and found["flux"].data.ndim == 1:
        found = {name: values if name == "wavelength" else _one_row(values) for name, values in found.items()}
    problems += [] if problems else _misshapen(found)
    problems += [] if problems else _units(found)
    if problems:
        raise DataError("\n".join(problems))
    if found["redshift"].data.ndim == 0:
        num_rows = len(found["flux"].data)
        found["redshift"] = Values(np.broadcast_to(found["redshift"].data, (num_rows,)), None, 1.0)
    return found


def _missing(name: str, names: list[str]) -> str:
    lower = {each.lower(): each for each in names if each not in NAMES}
    near = [lower[other] for other in (name, *_LIKELY.get(name, ())) if other in lower]
    near = near or difflib.get_close_matches(name, [each for each in names if each not in NAMES], n=1, cutoff=0.75)
    has = f"there is {', '.join(names[:20])}" if names else "nothing was given"
    return f"{name}: missing; " + (
        f"is it '{near[0]}'? Then say so: columns={{'{name}': '{near[0]}'}}" if near else has
    )


def _values(name: str, value: Any) -> Values:
    """Split an argument into numbers, mask and unit."""
    if type(value).__module__.partition(".")[0] == "h5py":
        raise DataError(f"{name}: is a dataset of an HDF5 file; give the name of the file, which is read in batches")
    unit = getattr(value, "unit", None)
    mask = getattr(value, "mask", None)
    if mask is not None:
        value = value.unmasked if hasattr(value, "unmasked") else np.ma.getdata(value)
        mask = np.broadcast_to(np.asarray(mask, dtype=bool), np.shape(value))
        mask = mask if mask.any() else None
    value = getattr(value, "value", value) if unit is not None and hasattr(value, "to_value") else value
    data = np.asarray(value)
    if name != "target_id" and data.dtype.kind not in "fiub":
        raise DataError(f"{name}: holds {data.dtype}, not numbers")
    if name == "target_id" and mask is not None:
        raise DataError("target_id: some are masked; every object needs one, or leave the column out")
    factor = 1.0 if not str(unit or "") or name not in ("flux", "ivar", "wavelength") else _factor(name, unit)
    return Values(data.view(np.ndarray), mask, factor)


def _factor(name: str, unit: Any) -> float:
    """Return the number by which a unit of astropy is multiplied to get ours."""
    from astropy import units

    flux = units.Unit(_FLUX_UNIT)
    ours = {"flux": flux, "ivar": flux**-2, "wavelength": units.AA}[name]
    try:
        return float(units.Unit(unit).to(ours))
    except (units.UnitConversionError, ValueError, TypeError) as error:
        raise DataError(f"{name}: its unit is '{unit}', which cannot be converted to '{ours}' ({error})") from error


def _one_row(values: Values) -> Values:
    """Return the values of a single spectrum as those of a set of one."""

    def one(array: np.ndarray) -> np.ndarray:
        return array.reshape(1) if array.size == 1 else array[None]

    return Values(one(values.data), None if values.mask is None else one(values.mask), values.factor)


def _misshapen(found: Mapping[str, Values]) -> list[str]:
    shape = found["flux"].data.shape
    if len(shape) != 2 or 0 in shape:
        return [f"flux: has shape {shape}; (spectra, pixels) is needed, or (pixels,) for one spectrum"]
    allowed = {
        "ivar": [shape],
        "mask": [shape],
        "wavelength": [shape[1:], (1, shape[1]), shape],
        "redshift": [shape[:1], ()],
        "target_id": [shape[:1]],
    }
    return [
        f"{name}: has shape {values.data.shape}, but flux {shape} asks for {allowed[name][0]}"
        for name, values in found.items()
        if name in allowed and values.data.shape not in allowed[name]
    ]


def _units(found: Mapping[str, Values]) -> list[str]:
    """Return a problem if only one of flux and ivar is scaled to our unit: their product would be wrong."""
    flux, ivar = found["flux"].factor, found["ivar"].factor
    if np.isclose(ivar * flux**2, 1.0, rtol=1e-6):
        return []
    return ["ivar: flux and ivar have units that do not belong together; give both a unit, or neither"]
