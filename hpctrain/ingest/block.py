"""Spectra on their way from a survey file to the output: n rows of one file on one wavelength grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError

IVAR_FLOOR = 1e-6
"""Pixels with an inverse variance up to this (sigma of 1000 flux units) are masked, as in the Multimodal Universe."""


@dataclass(frozen=True)
class Column:
    """One column of the output: its dtype, the value for 'not known', and its meaning."""

    dtype: str
    missing: object
    description: str
    unit: str = ""


COLUMNS = {
    "target_id": Column("i8", 0, "object the row belongs to; rows of one object share it"),
    "redshift": Column("f8", np.nan, "redshift; NaN where none is known"),
    "redshift_error": Column("f4", np.nan, "its standard error, by the survey's pipeline"),
    "redshift_source": Column("S16", b"", "estimated: by hpctrain, from the spectrum; empty: by the survey"),
    "zwarn": Column("i8", -1, "ZWARN or ZWARNING of the survey's pipeline, 0 is good; -1 where none is known"),
    "spectype": Column("S8", b"", "class by the survey's pipeline: GALAXY, QSO, STAR, SKY"),
    "ra": Column("f8", np.nan, "right ascension, ICRS", "deg"),
    "dec": Column("f8", np.nan, "declination, ICRS", "deg"),
    "plate": Column("i4", -1, "SDSS plate (or field)"),
    "mjd": Column("i4", -1, "SDSS modified Julian date of the observation", "d"),
    "fiber": Column("i4", -1, "SDSS fibre"),
    "specobjid": Column("u8", 0, "SDSS identifier of the spectrum"),
    "survey": Column("S16", b"", "DESI survey (sv1, main, ...) or RUN2D of SDSS"),
    "program": Column("S16", b"", "DESI program: dark, bright, backup, other"),
    "healpix": Column("i8", -1, "HEALPix pixel, nested, as the source gives it"),
    "num_exposures": Column("i4", 1, "exposures coadded here; 1 for a spectrum taken as it is"),
    "source_file": Column("i4", -1, "index into provenance/source_files"),
    "source_row": Column("i8", -1, "row (the first one, of several exposures) in that file"),
}
"""Columns a reader may fill; the writer leaves out those that no row filled, except the first six."""

ALWAYS_WRITTEN = ("target_id", "redshift", "zwarn", "spectype", "ra", "dec", "source_file", "source_row")


@dataclass
class SpectraBlock:
    """n spectra of one file on one wavelength grid of L pixels.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,), float64
        Vacuum wavelengths of the pixel centres [AA].
    flux : ndarray, shape (n, L), float32
        Flux density [1e-17 erg s-1 cm-2 AA-1].
    ivar : ndarray, shape (n, L), float32
        Its inverse variance; 0 masks a pixel. Bits of the survey's mask are in it already.
    columns : dict of ndarray, shape (n,)
        Keys of :data:`COLUMNS`, and any others that are carried along.
    reasons : list of str
        Why the reader drops the row; empty if it keeps it.
    duplicate_keys : list, optional
        Names of the observations; of rows with the same key only the first is kept.
    ivar_floor : float
        Pixels with an inverse variance up to this are masked. 0 for spectra of any unit, of bright stars for example.
    """

    wavelength_aa: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    duplicate_keys: list[tuple[int, ...]] | None = None
    ivar_floor: float = IVAR_FLOOR

    def __post_init__(self) -> None:
        if self.flux.shape != self.ivar.shape or self.flux.shape[1:] != self.wavelength_aa.shape:
            raise DataError(
                f"flux {self.flux.shape}, ivar {self.ivar.shape} and wavelength {self.wavelength_aa.shape} don't fit"
            )
        self.flux, self.ivar = native_float32(self.flux), native_float32(self.ivar)
        if not self.reasons:
            self.reasons = [""] * len(self.flux)
        mask_useless_pixels(self.flux, self.ivar, self.ivar_floor)

    @classmethod
    def unusable(cls, columns: dict[str, np.ndarray], reasons: list[str]) -> SpectraBlock:
        """Return rows without pixels, which only carry the reason why they are dropped."""
        nothing = np.zeros((len(reasons), 0), dtype=np.float32)
        return cls(np.zeros(0), nothing, nothing, columns, reasons)

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, rows: np.ndarray) -> SpectraBlock:
        """Return a block of the given rows."""
        return SpectraBlock(
            self.wavelength_aa,
            self.flux[rows],
            self.ivar[rows],
            {name: values[rows] for name, values in self.columns.items()},
            [self.reasons[row] for row in rows],
            None if self.duplicate_keys is None else [self.duplicate_keys[row] for row in rows],
            self.ivar_floor,
        )


def native_float32(values: np.ndarray) -> np.ndarray:
    """Return a float32 array of this machine's byte order that may be written to (FITS arrays are big-endian)."""
    return np.array(values, dtype=np.float32, order="C")


def mask_useless_pixels(flux: np.ndarray, ivar: np.ndarray, floor: float = IVAR_FLOOR) -> None:
    """Set, in place, ivar to 0 where flux or ivar carry no information, and flux to 0 where ivar is 0."""
    useless = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > floor))
    ivar[useless] = 0.0
    flux[useless] = 0.0


def group_by_wavelength(wavelengths: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each distinct wavelength vector with the rows that have it, in order of first appearance."""
    groups: dict[bytes, list[int]] = {}
    for row, wavelength in enumerate(wavelengths):
        groups.setdefault(wavelength.tobytes(), []).append(row)
    for rows in groups.values():
        yield wavelengths[rows[0]], np.array(rows, dtype=np.int64)
