"""The rest-frame grid, and its interpolation to the observed pixels by redshift.

Legend: N spectra, L observed pixels, R rest-frame pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.kinds.spectra.facts import SpectraFacts


@dataclass(frozen=True)
class RestGrid:
    """A logarithmic rest-frame wavelength grid.

    On a logarithmic grid a redshift is a shift. The position of a wavelength has a closed form, so that resampling
    needs no search.

    Parameters
    ----------
    log_start : float
        Natural logarithm of the first wavelength [AA].
    log_step : float
        Step in natural log wavelength.
    num_pixels : int
        Pixels R.
    """

    log_start: float
    log_step: float
    num_pixels: int

    @classmethod
    def for_data(
        cls,
        facts: SpectraFacts,
        range_aa: tuple[float, float] | None = None,
        num_pixels: int | None = None,
    ) -> RestGrid:
        """Choose the grid from the range of the data.

        Parameters
        ----------
        facts : SpectraFacts
            Observed grid and redshift range.
        range_aa : tuple of float, optional
            Rest-frame range [AA]; by default from the bluest pixel of the most distant object to the reddest pixel of
            the nearest.
        num_pixels : int, optional
            Pixels R; by default as many per unit of log wavelength as the observed grid has on average.
        """
        range_aa, num_pixels = cls.extent(facts, range_aa, num_pixels)
        return cls(math.log(range_aa[0]), math.log(range_aa[1] / range_aa[0]) / (num_pixels - 1), num_pixels)

    @staticmethod
    def extent(
        facts: SpectraFacts,
        range_aa: tuple[float, float] | None = None,
        num_pixels: int | None = None,
        oversampling: int = 1,
    ) -> tuple[tuple[float, float], int]:
        """Return range [AA] and number of pixels of a grid; `oversampling` counts rest pixels per observed pixel.

        With one, it is the grid that :meth:`for_data` makes from the same arguments.
        """
        first, last = facts.wavelength_aa
        if range_aa is None:
            margin = 1.0 + facts.mean_log_step  # keeps the outermost pixels inside in spite of rounding
            range_aa = (first / (1.0 + facts.redshift_max) / margin, last / (1.0 + facts.redshift_min) * margin)
        if num_pixels is None:
            step = facts.mean_log_step / oversampling
            num_pixels = max(16, math.ceil(math.log(range_aa[1] / range_aa[0]) / step) + 1)
        return range_aa, num_pixels

    @property
    def wavelength_aa(self) -> Tensor:
        """Rest-frame wavelengths, shape (R,), float64 [AA]."""
        return torch.exp(self.log_start + self.log_step * torch.arange(self.num_pixels, dtype=torch.float64))

    def position(self, wavelength_aa: Tensor, redshift: Tensor) -> Tensor:
        """Return the positions of observed pixels on the rest grid.

        Parameters
        ----------
        wavelength_aa : Tensor, shape (L,) or (N, L)
            Observed wavelengths [AA]; pixels at or below 0 (padding) get positions far below the grid.
        redshift : Tensor, shape (N,)
            Redshifts; an unusable one counts as 0, because its row has no weight.

        Returns
        -------
        Tensor, shape (N, L), float64
            Fractional index into the rest grid, in double precision, because at index 20,000 float32 has an error of a
            hundredth of a pixel (about 0.3 km/s).
        """
        log_shift = torch.log1p(_usable(redshift))
        log_wavelength = torch.log(wavelength_aa.double().clamp(min=1e-3))
        if log_wavelength.ndim == 1:
            log_wavelength = log_wavelength[None, :]
        return (log_wavelength - log_shift[:, None] - self.log_start) / self.log_step

    def covers(self, position: Tensor) -> Tensor:
        """Return which positions are on the grid: bool, in the shape of `position`."""
        return (position >= 0) & (position <= self.num_pixels - 1)

    def interpolate(self, rest: Tensor, position: Tensor) -> Tensor:
        """Interpolate rest-frame spectra linearly at fractional positions.

        Parameters
        ----------
        rest : Tensor, shape (N, R)
            Spectra on the rest grid.
        position : Tensor, shape (N, L), float64
            Positions from :meth:`position`.

        Returns
        -------
        Tensor, shape (N, L), dtype of `rest`
            Interpolated flux; off the grid, the nearest end value. Use :meth:`covers` to mask these.

        References
        ----------
        .. [1] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890: explicit redshift between rest-frame decoder and
           data.
        """
        return self.interpolate_at(rest, self.place(position))

    @staticmethod
    def interpolate_at(rest: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        """Interpolate as :meth:`interpolate` does, at places from :meth:`place`."""
        index, fraction = place
        left = rest.gather(1, index)
        return left + fraction.to(rest.dtype) * (rest.gather(1, index + 1) - left)

    def place(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Split positions into the rest pixel below (N, L) int64, and the fraction of a pixel above it in [0, 1]."""
        lower = position.clamp(0, self.num_pixels - 2).floor()
        return lower.long(), (position - lower).clamp(0, 1)

    def bin_spectra(
        self, flux: Tensor, ivar: Tensor, wavelength_aa: Tensor, redshift: Tensor, num_bins: int
    ) -> tuple[Tensor, Tensor]:
        """Average spectra in broad rest-frame bins.

        Each rest-frame pixel gets the value of the observed pixel that contains it, and each bin the weighted mean of
        its pixels. Unlike a scatter, this only reads, so that the result does not depend on the order of parallel
        additions.

        Parameters
        ----------
        flux, ivar : Tensor, shape (N, L)
            Flux and its inverse variance; flux must be finite, also where `ivar` is 0.
        wavelength_aa : Tensor, shape (L,) or (N, L)
            Observed wavelengths [AA], in rising order.
        redshift : Tensor, shape (N,)
            Redshifts.
        num_bins : int
            Number B of bins, which are equal in log wavelength.

        Returns
        -------
        mean, ivar : Tensor, shape (N, B), float32
            Weighted mean flux and its inverse variance; both are 0 in bins without a valid pixel.
        """
        pixels = math.ceil(self.num_pixels / num_bins) * num_bins
        rest = torch.linspace(0, self.num_pixels - 1, pixels, dtype=torch.float64, device=flux.device)
        observed = torch.exp(self.log_start + self.log_step * rest) * (1.0 + _usable(redshift))[:, None]
        grid = wavelength_aa.double()
        middle = 0.5 * (grid[..., 1:] + grid[..., :-1])
        index = torch.searchsorted(middle.contiguous(), observed)
        first, last = (
            2 * grid[..., :1] - middle[..., :1],
            2 * grid[..., -1:] - middle[..., -1:],
        )  # edges of the end pixels
        inside = (observed >= first) & (observed <= last)
        weight = torch.where(inside, ivar.gather(1, index), 0).float()
        weighted = (weight * flux.gather(1, index)).view(len(flux), num_bins, -1).sum(-1)
        weight = weight.view(len(flux), num_bins, -1).sum(-1)
        return weighted / weight.clamp(min=torch.finfo(torch.float32).tiny), weight


def _usable(redshift: Tensor) -> Tensor:
    """Return redshifts in float64; an unusable one becomes 0, because its row has no weight."""
    return torch.where(torch.isfinite(redshift) & (redshift > -0.9), redshift, 0).double()
