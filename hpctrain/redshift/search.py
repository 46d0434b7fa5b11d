"""Chi-square of the templates of one class at all redshifts.

N spectra, M pixels of the log grid, K components, D polynomials, S shifts. At each redshift, the model of a spectrum is
a linear combination of the mean spectrum, the components, and polynomials of the observed wavelength (for errors of the
flux calibration, dust, and continua that no component describes), so the best coefficients solve normal equations.
Their sums over pixels, of ivar * B_i * B_j and of ivar * B_i * flux, are needed at all shifts: they are correlations,
which the fast Fourier transform gives at once.

References
----------
.. [1] Glazebrook, Offer & Deeley 1998, ApJ 492, 98, arXiv:astro-ph/9707140: redshifts by PCA and cross-correlation.
.. [2] Bolton et al. 2012, AJ 144, 144, arXiv:1207.7326: PCA templates and polynomials in SDSS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from hpctrain.redshift.log_grid import LogSpectra
from hpctrain.redshift.templates import Template

SPREAD = 2.0
"""Standard deviation of the prior of a score, in units of the scatter of the training spectra."""

NUM_POLYNOMIALS, POLYNOMIAL_SPREAD = 3, 0.3
"""Number D of polynomials, and the standard deviation of the prior of each, in units of the mean spectrum."""

BLOCK_BYTES = {"cpu": 1 << 25, "cuda": 1 << 31}
"""Memory for the sums of the spectra that are worked on together: on a CPU they should stay in the cache."""

_TINY = 1e-12
"""Part of a diagonal element below which a component counts as a combination of earlier ones."""


class TemplateSearch:
    """Computes chi-square of one class for spectra on one log grid.

    Parameters
    ----------
    template : Template
    step : float
        Step in ln wavelength.
    first : int
        Number of the first pixel of the spectra's grid.
    num_pixels : int
        M.
    device : torch.device or str
    """

    def __init__(
        self, template: Template, step: float, first: int, num_pixels: int, device: torch.device | str = "cpu"
    ) -> None:
        self.template = template
        low, high = template.shifts(step)
        self.first_shift, self.num_shifts = low, high - low + 1
        basis = torch.from_numpy(template.between(first - high, first + num_pixels - 1 - low)).to(device)
        self._size = len(basis)
        self._length = next_fast_len(basis.shape[1], real=True)
        upper, lower = torch.tril_indices(self._size, self._size, device=basis.device)
        self._products = torch.fft.rfft(basis[upper] * basis[lower], n=self._length)
        self._basis = torch.fft.rfft(basis, n=self._length)
        pixels = torch.arange(first, first + num_pixels, dtype=torch.float64, device=basis.device)
        self._polynomials = polynomials(step * pixels)

    def chi2(self, spectra: LogSpectra, near: Tensor | None = None) -> Tensor:
        """Return the smallest chi-square at each shift, with the penalty of the prior.

        Parameters
        ----------
        spectra : LogSpectra
            N spectra on the grid of the constructor.
        near : Tensor, shape (N, W), int64, optional
            Columns that are wanted of each spectrum; all S by default.

        Returns
        -------
        Tensor, shape (N, S) or (N, W), float64
            In the order of rising redshift, from shift `first_shift`.
        """
        size = self._size + NUM_POLYNOMIALS
        block = max(1, BLOCK_BYTES[spectra.weight.device.type] // (8 * size * (size + 3) // 2 * self._length))
        found = []
        for start in range(0, len(spectra), block):
            rows = slice(start, start + block)
            normal, right = self._sums(spectra.weight[rows], spectra.weighted_flux[rows])
            if near is not None:
                column = (self.num_shifts - 1 - near[rows])[:, None]
                normal, right = (sums.gather(2, column.expand(-1, sums.shape[1], -1)) for sums in (normal, right))
            penalty = coefficient_penalty(normal[:, 0], right[:, 0], self._size)
            found.append(spectra.square[rows, None] - explained(normal, right, penalty))
        return torch.cat(found) if near is not None else torch.cat(found).flip(1)

    def _sums(self, weight: Tensor, weighted_flux: Tensor) -> tuple[Tensor, Tensor]:
        """Return normal matrices and right-hand sides at all shifts, the last one first; see :func:`explained`."""
        normal = [self._correlate(weight, self._products)]
        right = [self._correlate(weighted_flux, self._basis)]
        for number, polynomial in enumerate(self._polynomials):
            weighted = weight * polynomial
            same = weighted @ self._polynomials[: number + 1].T  # at all shifts
            normal += [self._correlate(weighted, self._basis), same[..., None].expand(-1, -1, self.num_shifts)]
            right.append((weighted_flux @ polynomial)[:, None, None].expand(-1, 1, self.num_shifts))
        return torch.cat(normal, dim=1), torch.cat(right, dim=1)

    def _correlate(self, values: Tensor, curves: Tensor) -> Tensor:
        """Return the sums of values (N, M) times curves at all shifts, the last one first."""
        transformed = torch.fft.rfft(values, n=self._length).conj()
        return torch.fft.irfft(transformed[:, None] * curves, n=self._length)[..., : self.num_shifts]


def polynomials(log_wavelength: Tensor) -> Tensor:
    """Return the polynomials of the observed wavelength: powers of ln wavelength, scaled to the optical range.

    Parameters
    ----------
    log_wavelength : Tensor, shape (..., L), float64
        Observed wavelengths [ln AA].

    Returns
    -------
    Tensor, shape (D, ..., L)
    """
    place = (log_wavelength - math.log(6000.0)) / 0.5  # 3600 to 9900 AA becomes -1 to 1
    return torch.stack([place**power for power in range(NUM_POLYNOMIALS)])


def coefficient_penalty(mean_square: Tensor, mean_flux: Tensor, size: int) -> list[Tensor]:
    """Return the inverse variance of the prior of each coefficient.

    A coefficient is a score times the amplitude of the spectrum. Scores have unit variance over the training spectra;
    the amplitude is that of the mean spectrum, fitted alone. The coefficient of the mean spectrum itself is free.

    Parameters
    ----------
    mean_square, mean_flux : Tensor
        Sum of ivar times the mean spectrum squared, and of ivar times mean spectrum times flux.
    size : int
        Number 1 + K of templates.

    Returns
    -------
    list of Tensor
        For the mean spectrum, the components and the polynomials.
    """
    precision = mean_square.clamp(min=1e-300)
    amplitude = (mean_flux / precision).clamp(min=0)
    variance = amplitude.square() + 1 / precision
    component, polynomial = (1 / (spread**2 * variance) for spread in (SPREAD, POLYNOMIAL_SPREAD))
    return [torch.zeros_like(variance), *[component] * (size - 1), *[polynomial] * NUM_POLYNOMIALS]


def explained(normal: Tensor, right: Tensor, penalty: Sequence[Tensor]) -> Tensor:
    """Return by how much the best coefficients lower chi-square, by a Cholesky decomposition.

    Every step works on all redshifts of all spectra, which is faster than a solver that gets small matrices.

    Parameters
    ----------
    normal : Tensor, shape (N, C (C + 1) / 2, S)
        Lower triangles of the normal matrices of C coefficients, row by row; overwritten.
    right : Tensor, shape (N, C, S)
        Right-hand sides; overwritten.
    penalty : sequence of Tensor, shape (N, S)
        Addition to each of the C diagonal elements.

    Returns
    -------
    Tensor, shape (N, S)
    """
    size = right.shape[1]
    factor = {(i, j): normal[:, i * (i + 1) // 2 + j] for i in range(size) for j in range(i + 1)}
    total = torch.zeros_like(right[:, 0])
    for j in range(size):
        diagonal = factor[j, j] + penalty[j]
        least = _TINY * diagonal
        for k in range(j):
            diagonal = diagonal.addcmul(factor[j, k], factor[j, k], value=-1)
            right[:, j].addcmul_(factor[j, k], right[:, k], value=-1)
        inverse = torch.where(diagonal > least, diagonal, torch.inf).rsqrt()
        right[:, j].mul_(inverse)
        total.addcmul_(right[:, j], right[:, j])
        for i in range(j + 1, size):
            for k in range(j):
                factor[i, j].addcmul_(factor[i, k], factor[j, k], value=-1)
            factor[i, j].mul_(inverse)
    return total
