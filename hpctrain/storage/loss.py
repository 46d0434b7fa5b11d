"""Measure the error of a lossy copy of spectra, in units of each pixel's own noise."""

from __future__ import annotations

from typing import Any

import numpy as np


class Loss:
    """Differences between spectra and their rounded copy, summed over blocks.

    Attributes
    ----------
    num_overflows : int
        Finite values that are infinite in the copy.
    num_lost_weights : int
        Pixels with weight whose ivar is 0 in the copy.
    """

    def __init__(self) -> None:
        self._num_pixels = 0
        self._sum_squares = 0.0
        self._max_sigma = 0.0
        self._max_ivar = 0.0
        self.num_overflows = 0
        self.num_lost_weights = 0

    def add(self, flux: np.ndarray, ivar: np.ndarray, kept_flux: np.ndarray, kept_ivar: np.ndarray) -> None:
        """Compare a block, shape (n, L), with its rounded copy."""
        kept_flux, kept_ivar = kept_flux.astype(np.float32), kept_ivar.astype(np.float32)
        is_weight = np.isfinite(ivar) & (ivar > 0)
        self.num_overflows += int((np.isfinite(flux) & np.isinf(kept_flux) & is_weight).sum())
        self.num_overflows += int((is_weight & np.isinf(kept_ivar)).sum())
        self.num_lost_weights += int((is_weight & (kept_ivar == 0)).sum())
        good = is_weight & np.isfinite(flux) & np.isfinite(kept_flux) & np.isfinite(kept_ivar)
        if not good.any():
            return
        weight = ivar[good].astype(np.float64)
        sigmas = (kept_flux[good].astype(np.float64) - flux[good]) * np.sqrt(weight)
        self._num_pixels += sigmas.size
        self._sum_squares += float(np.square(sigmas).sum())
        self._max_sigma = max(self._max_sigma, float(np.abs(sigmas).max()))
        self._max_ivar = max(self._max_ivar, float((np.abs(kept_ivar[good] - weight) / weight).max()))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        rms = (self._sum_squares / self._num_pixels) ** 0.5 if self._num_pixels else 0.0
        return {
            "num_pixels": self._num_pixels,
            "flux_rms_sigma": rms,
            "flux_max_sigma": self._max_sigma,
            "ivar_max_relative": self._max_ivar,
            "num_lost_weights": self.num_lost_weights,
        }

    def __str__(self) -> str:
        facts = self.as_dict()
        lost = f"; {self.num_lost_weights:,} pixels lost their weight" if self.num_lost_weights else ""
        return (
            f"flux off by {facts['flux_rms_sigma']:.4f} sigma rms, {facts['flux_max_sigma']:.4f} at most "
            f"({100 * facts['flux_rms_sigma'] ** 2:.3f} % more variance); ivar by "
            f"{100 * facts['ivar_max_relative']:.2f} % at most{lost}"
        )
