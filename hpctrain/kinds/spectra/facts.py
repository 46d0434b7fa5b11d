"""Facts about the spectra that a network needs: their grid and their range of redshifts.

The shape of every weight depends only on the model section and these facts, so that a checkpoint, an estimate of the
memory without data, and a fine-tuning run have the same shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.redshift import LOWEST_REDSHIFT

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet

_PROBE_ROWS = 256
"""Number of rows whose wavelengths to read if a set has no common grid."""


@dataclass(frozen=True)
class SpectraFacts:
    """Grid and redshift range of a set of spectra.

    Parameters
    ----------
    num_pixels : int
        Pixels L of the observed grid.
    wavelength_aa : tuple of float
        First and last wavelength of that grid [vacuum AA].
    redshift_min, redshift_max : float
        Range of the redshifts; 0 where no spectrum has one.
    wavelength_middle_aa : float, optional
        Wavelength of pixel ``L // 2``: distinguishes a linear from a logarithmic grid of the same range.
    """

    num_pixels: int
    wavelength_aa: tuple[float, float]
    redshift_min: float
    redshift_max: float
    wavelength_middle_aa: float | None = None

    @property
    def mean_log_step(self) -> float:
        """Mean size of a pixel of the observed grid in natural log wavelength."""
        first, last = self.wavelength_aa
        return math.log(last / first) / max(1, self.num_pixels - 1)

    @property
    def mean_pixel_width_aa(self) -> float:
        """Mean width of a pixel of the observed grid [AA]."""
        first, last = self.wavelength_aa
        return (last - first) / max(1, self.num_pixels - 1)

    @classmethod
    def from_spectra(cls, spectra: SpectraSet, rows: np.ndarray) -> SpectraFacts:
        """Take the facts from a set of spectra.

        Parameters
        ----------
        spectra : SpectraSet
            The opened files.
        rows : ndarray, shape (M,), int64
            Rows whose redshifts count, usually all training spectra.

        Raises
        ------
        DataError
            There is no row, no usable redshift among the rows, or no usable wavelength.
        """
        redshift = np.asarray(spectra.redshift, dtype=np.float64)[rows][spectra.has_redshift[rows]]
        if redshift.size == 0 and not spectra.needs_redshift:
            redshift = np.zeros(1)
        if redshift.size == 0:
            raise DataError(
                f"none of the {len(rows):,} training spectra has a redshift (a finite number above {LOWEST_REDSHIFT}), "
                "so nothing could be trained on; set data.columns.redshift to the column that holds redshifts, or "
                "ingest the spectra again with their redshift tables (hpctrain ingest desi --redshifts TABLE)"
            )
        first, last, middle = _grid_range(spectra, rows)
        return cls(
            num_pixels=int(spectra.num_pixels),
            wavelength_aa=(first, last),
            redshift_min=float(redshift.min()),
            redshift_max=float(redshift.max()),
            wavelength_middle_aa=middle,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SpectraFacts:
        """Read back what :meth:`to_json` returned."""
        first, last = values["wavelength_aa"]
        return cls(**{**values, "wavelength_aa": (float(first), float(last))})

    def difference(self, spectra: SpectraSet) -> str | None:
        """Return the difference between the grid of `spectra` and that of the network; None if they are the same.

        The encoder's filters have the width of a pixel, so spectra on another grid would silently give wrong results.
        Ends and middle must agree to a tenth of a pixel.
        """
        if spectra.num_pixels != self.num_pixels:
            return f"{spectra.num_pixels} pixels, the model has {self.num_pixels}"
        if self.wavelength_middle_aa is None:
            return None  # the rows of the training data had different grids
        if spectra.wavelength_aa is None:
            return "every row has its own grid, the model has one for all rows"
        ours = (*self.wavelength_aa, self.wavelength_middle_aa)
        grid = np.asarray(spectra.wavelength_aa, dtype=np.float64)
        theirs = (grid[0], grid[-1], grid[len(grid) // 2])
        for name, mine, other in zip(("first", "last", "middle"), ours, theirs, strict=True):
            if abs(math.log(other / mine)) > 0.1 * self.mean_log_step:
                return f"{name} pixel at {other:.2f} AA, the model's is at {mine:.2f} AA"
        return None


DESI_GRID = SpectraFacts(7781, (3600.0, 9824.0), 0.0, 4.0, 6712.0)
"""Facts that are assumed where there are no data yet: the DESI grid, and quasars up to redshift 4."""


def _grid_range(spectra: SpectraSet, rows: np.ndarray) -> tuple[float, float, float | None]:
    if spectra.wavelength_aa is not None:
        grid = np.asarray(spectra.wavelength_aa, dtype=np.float64)
        return float(grid[0]), float(grid[-1]), float(grid[len(grid) // 2])
    probe = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PROBE_ROWS)).astype(np.int64)]
    wavelength = spectra.read(np.asarray(probe, dtype=np.int64)).wavelength_aa.numpy().astype(np.float64)
    usable = wavelength[np.isfinite(wavelength) & (wavelength > 0)]  # rows shorter than L are padded with 0 or -1
    if usable.size == 0 or usable.min() == usable.max():
        raise DataError("no row has usable wavelengths; set data.columns.wavelength to the column that holds them")
    return float(usable.min()), float(usable.max()), None
