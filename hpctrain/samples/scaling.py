"""Scale and zero point of integer datasets in a file."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np


@dataclass(frozen=True)
class Scaling:
    """Scaling of an integer dataset: ``value * scale + zero``, with `blank` for a missing value.

    The attributes are those of the CF conventions (``scale_factor``, ``add_offset``, ``_FillValue``) or of FITS
    (``BSCALE``, ``BZERO``, ``BLANK``).
    """

    scale: float = 1.0
    zero: float = 0.0
    blank: float | None = None

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Scaling:
        """Read the attributes."""
        attributes = {name.lower(): value for name, value in dataset.attrs.items()}

        def number(*names: str) -> float | None:
            found = [attributes[name] for name in names if name in attributes]
            return float(np.asarray(found[0]).reshape(-1)[0]) if found else None

        scale, zero = number("scale_factor", "bscale"), number("add_offset", "bzero")
        blank = number("_fillvalue", "blank") if dataset.dtype.kind in "iu" else None
        return cls(1.0 if scale is None else scale, zero or 0.0, blank)

    def apply(self, stored: np.ndarray, out: np.ndarray) -> None:
        """Write the values of `stored` to `out` (float32); blanks become NaN, overflows infinite; both are masked."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self == Scaling():
                np.copyto(out, stored, casting="unsafe")
                return
            np.copyto(out, stored * self.scale + self.zero, casting="unsafe")
        if self.blank is not None:
            out[stored == self.blank] = np.nan
