"""Spectra on a grid in log wavelength, on which a redshift is a shift by whole pixels.

N spectra, L observed pixels, M pixels of the grid. Pixel m of every grid is at ln wavelength = m * step [ln AA], so all
grids of one step fit onto each other, and shift s is the redshift exp(s * step) - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FINEST_STEP, COARSEST_STEP = 2e-4, 5e-4
"""Limits of the step in ln wavelength: 60 and 150 km/s."""

_BLOCK = 256
"""Pixels of which a grid is a multiple, so that spectra with nearly the same range share one."""


def choose_step(wavelength_aa: np.ndarray) -> float:
    """Return a step in ln wavelength for spectra of this grid: half a pixel, within limits.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,)
        Observed wavelengths, rising [AA].
    """
    return float(np.clip(0.5 * pixel_width(wavelength_aa), FINEST_STEP, COARSEST_STEP))


def pixel_width(wavelength_aa: np.ndarray) -> float:
    """Return the median width of a pixel in ln wavelength."""
    return float(np.median(np.diff(np.log(np.asarray(wavelength_aa, dtype=np.float64)))))


@dataclass(frozen=True)
class LogSpectra:
    """Spectra as sums over their pixels on the log grid.

    Parameters
    ----------
    first : int
        Number of the first pixel of the grid.
    weight, weighted_flux : Tensor, shape (N, M), float64
        Sums of ivar and of ivar times flux. Each observed pixel is shared between the two nearest pixels of the grid,
        as linear interpolation shares it: the sum of weight times any curve on the grid is the sum over the observed
        pixels of ivar times the curve, interpolated linearly.
    square : Tensor, shape (N,), float64
        Sum of ivar times flux squared, which is the chi-square of a model that is 0.
    num_valid : Tensor, shape (N,), int64
        Observed pixels with weight.
    """

    first: int
    weight: Tensor
    weighted_flux: Tensor
    square: Tensor
    num_valid: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, rows: Tensor) -> LogSpectra:
        """Return some of them."""
        columns = (self.weight, self.weighted_flux, self.square, self.num_valid)
        return LogSpectra(self.first, *(column[rows] for column in columns))

    @property
    def num_pixels(self) -> int:
        """M."""
        return self.weight.shape[1]


def to_log_grid(flux: Tensor, ivar: Tensor, wavelength_aa: Tensor, step: float) -> LogSpectra:
    """Put spectra on the log grid.

    Parameters
    ----------
    flux, ivar : Tensor, shape (N, L)
        Finite; ivar 0 masks a pixel.
    wavelength_aa : Tensor, shape (L,) or (N, L)
        Observed wavelengths, rising [AA].
    step : float
        Step in ln wavelength.
    """
    weight = ivar.double()
    weighted_flux = weight * torch.where(weight > 0, flux, 0).double()
    position = torch.log(wavelength_aa.double().clamp(min=1e-3)) / step
    if position.ndim == 2:
        position = _without_padding(position, weight > 0)
    first = math.floor(float(position.min())) // _BLOCK * _BLOCK
    num_pixels = -((first - math.floor(float(position.max())) - 2) // _BLOCK) * _BLOCK
    left = position.floor()
    part = position - left
    index = (left.long() - first).expand(weight.shape)
    sums = []
    for values in (weight, weighted_flux):
        total = values.new_zeros(len(values), num_pixels)
        total.scatter_add_(1, index, values * (1 - part))
        total.scatter_add_(1, index + 1, values * part)
        sums.append(total)
    square = (weighted_flux * torch.where(weight > 0, flux, 0).double()).sum(dim=1)
    return LogSpectra(first, sums[0], sums[1], square, (weight > 0).sum(dim=1))


def _without_padding(position: Tensor, valid: Tensor) -> Tensor:
    """Return positions (N, L) in which those without weight are within the range of the others.

    Padding may have any wavelength, and the grid would have to reach it.
    """
    if not valid.any():
        return torch.zeros_like(position)
    used = position[valid]
    return position.clamp(used.min(), used.max())
