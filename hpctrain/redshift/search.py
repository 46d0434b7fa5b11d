"""Chi-square of the templates of one class at all redshifts.

N spectra, M pixels of the log grid, K components, S shifts. At each redshift, the model of a spectrum is a linear
combination of the mean spectrum and the components, so the best coefficients solve normal equations. Their sums over
pixels, of ivar * B_i * B_j and of ivar * B_i * flux, are needed at all shifts: they are correlations, which the fast
Fourier transform gives at once.

References
----------
.. [1] Glazebrook, Offer & Deeley 1998, ApJ 492, 98, arXiv:astro-ph/9707140: redshifts by PCA and cross-correlation.
.. [2] Bolton et al. 2012, AJ 144, 144, arXiv:1207.7326: chi-square over PCA templates in SDSS.
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from hpctrain.redshift.log_grid import LogSpectra
from hpctrain.redshift.templates import Template

SPREAD = 2.0
"""Standard deviation of the prior of a score, in units of the scatter of the training spectra."""

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

    def chi2(self, spectra: LogSpectra) -> Tensor:
        """Return the smallest chi-square at each shift, with the penalty of the prior.

        Parameters
        ----------
        spectra : LogSpectra
            N spectra on the grid of the constructor.

        Returns
        -------
        Tensor, shape (N, S), float64
            In the order of rising redshift, from shift `first_shift`.
        """
        sums = len(self._products) + len(self._basis)
        block = max(1, BLOCK_BYTES[spectra.weight.device.type] // (8 * sums * self._length))
        found = []
        for start in range(0, len(spectra), block):
            rows = slice(start, start + block)
            normal = self._correlate(spectra.weight[rows], self._products)
            right = self._correlate(spectra.weighted_flux[rows], self._basis)
            penalty = score_penalty(normal[:, 0], right[:, 0])
            found.append(spectra.square[rows, None] - explained(normal, right, penalty))
        return torch.cat(found).flip(1)

    def _correlate(self, values: Tensor, curves: Tensor) -> Tensor:
        """Return the sums of values (N, M) times curves at all shifts, the last one first."""
        transformed = torch.fft.rfft(values, n=self._length).conj()
        return torch.fft.irfft(transformed[:, None] * curves, n=self._length)[..., : self.num_shifts]


def score_penalty(mean_square: Tensor, mean_flux: Tensor) -> Tensor:
    """Return the inverse variance of the prior of a component's coefficient.

    A coefficient is a score times the amplitude of the spectrum. Scores have unit variance over the training spectra;
    the amplitude is that of the mean spectrum, fitted alone.

    Parameters
    ----------
    mean_square, mean_flux : Tensor
        Sum of ivar times the mean spectrum squared, and of ivar times mean spectrum times flux.
    """
    precision = mean_square.clamp(min=1e-300)
    amplitude = (mean_flux / precision).clamp(min=0)
    return 1 / (SPREAD**2 * (amplitude.square() + 1 / precision))


def explained(normal: Tensor, right: Tensor, penalty: Tensor) -> Tensor:
    """Return by how much the best coefficients lower chi-square, by a Cholesky decomposition.

    Every step works on all redshifts of all spectra, which is faster than a solver that gets small matrices.

    Parameters
    ----------
    normal : Tensor, shape (N, (1 + K) (2 + K) / 2, S)
        Lower triangles of the normal matrices, row by row; overwritten.
    right : Tensor, shape (N, 1 + K, S)
        Right-hand sides; overwritten.
    penalty : Tensor, shape (N, S)
        Addition to all diagonal elements but the first.

    Returns
    -------
    Tensor, shape (N, S)
    """
    size = right.shape[1]
    factor = {(i, j): normal[:, i * (i + 1) // 2 + j] for i in range(size) for j in range(i + 1)}
    total = torch.zeros_like(penalty)
    for j in range(size):
        diagonal = factor[j, j] + penalty if j else factor[j, j]
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
