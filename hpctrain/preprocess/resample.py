"""Resamples spectra, conserving flux and propagating the variance.

A pixel holds the mean flux density over its width, so an output pixel is the mean of the input pixels weighted with the
lengths O[i, j] in which output pixel i and input pixel j overlap. O depends on the two grids only: it is built once per
pair and applied to any number of spectra.

Two conventions for the inverse variance of the result (N spectra, L input pixels, M output pixels):

``per_pixel``
    var_i = sum_j O[i, j]^2 var_j / (sum_j O[i, j])^2, the true variance of each output pixel, as in SpectRes.
    Neighbours share input pixels and are correlated, so the sum of ivar overstates the information (up to 3x when
    upsampling).
``conserve``
    ivar_i = sum_j O[i, j] ivar_j / width_j, as in desispec: the sum of ivar is conserved, pulls of a single pixel are
    below 1.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from scipy import sparse

from hpctrain.preprocess.grid import find_offset, pixel_edges, require_grid

IvarConvention = Literal["per_pixel", "conserve"]


class UpsamplingWarning(UserWarning):
    """The output pixels are narrower than the input pixels: they repeat each other and add no information."""


def overlap_matrix(wavelength_in: np.ndarray, wavelength_out: np.ndarray) -> sparse.csr_array:
    """Return the lengths in which output and input pixels overlap.

    Parameters
    ----------
    wavelength_in : ndarray, shape (L,), float64
        Centres of the input pixels [AA].
    wavelength_out : ndarray, shape (M,), float64
        Centres of the output pixels [AA].

    Returns
    -------
    scipy.sparse.csr_array, shape (M, L), float64
        Overlap of output pixel i and input pixel j [AA].
    """
    edges_in, edges_out = pixel_edges(wavelength_in), pixel_edges(wavelength_out)
    # Two neighbouring edges of the merged list enclose a piece of exactly one input and one output pixel.
    low, high = max(edges_in[0], edges_out[0]), min(edges_in[-1], edges_out[-1])
    shape = (len(wavelength_out), len(wavelength_in))
    if low >= high:
        return sparse.csr_array(shape, dtype=np.float64)
    cuts = np.union1d(edges_in, edges_out)
    cuts = cuts[(cuts >= low) & (cuts <= high)]
    middle, length = 0.5 * (cuts[1:] + cuts[:-1]), np.diff(cuts)
    row = np.searchsorted(edges_out, middle, side="right") - 1
    column = np.searchsorted(edges_in, middle, side="right") - 1
    return sparse.csr_array(sparse.coo_array((length, (row, column)), shape=shape))


class Resampler:
    """Moves spectra from one wavelength grid to another.

    Where the output grid continues the lattice of the input (as SDSS spectra and the ``sdss`` grid, or equal grids),
    pixels are copied bit for bit.

    Parameters
    ----------
    wavelength_in, wavelength_out : array_like, shape (L,) and (M,)
        Pixel centres [AA], strictly increasing.
    convention : {"per_pixel", "conserve"}
        Convention of the output ivar; see the module's text.
    min_coverage : float
        An output pixel of whose width a smaller part is covered by good input pixels gets ivar 0.

    Attributes
    ----------
    upsampling : float
        Largest ratio of input to output pixel width; 1 where pixels are copied.

    Raises
    ------
    DataError
        A grid is not finite, positive and strictly increasing.

    References
    ----------
    .. [1] Carnall 2017, arXiv:1705.05165 (SpectRes): the ``per_pixel`` convention.
    .. [2] desispec.interpolation.resample_flux: the ``conserve`` convention.
    """

    def __init__(
        self,
        wavelength_in: np.ndarray,
        wavelength_out: np.ndarray,
        convention: IvarConvention = "per_pixel",
        min_coverage: float = 0.5,
    ) -> None:
        self.wavelength_in = require_grid(wavelength_in, "input wavelength")
        self.wavelength_out = require_grid(wavelength_out, "output wavelength")
        self.convention = convention
        self.min_coverage = min_coverage
        self.offset = find_offset(self.wavelength_in, self.wavelength_out)
        if self.offset is not None:
            self.upsampling = 1.0
            return
        self._overlap = overlap_matrix(self.wavelength_in, self.wavelength_out)
        self._width_in = np.diff(pixel_edges(self.wavelength_in))
        self._width_out = np.diff(pixel_edges(self.wavelength_out))
        widths = np.interp(self.wavelength_out, self.wavelength_in, self._width_in) / self._width_out
        met = np.diff(self._overlap.indptr) > 0
        self.upsampling = float(widths[met].max()) if met.any() else 1.0

    def __call__(self, flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resample spectra.

        Parameters
        ----------
        flux : ndarray, shape (N, L)
            Flux density per wavelength.
        ivar : ndarray, shape (N, L)
            Inverse variance of `flux`; 0 (or less, or not finite) masks a pixel, whose flux is not used.

        Returns
        -------
        flux : ndarray, shape (N, M), dtype of the input
            Mean over the good part of each output pixel; 0 where there is none.
        ivar : ndarray, shape (N, M), dtype of the input
            0 where good pixels cover less than `min_coverage` of the output pixel.
        """
        if self.offset is not None:
            return self._copy(flux), self._copy(ivar)
        good = np.isfinite(ivar) & (ivar > 0) & np.isfinite(flux)
        weight = np.where(good, ivar, 0).astype(np.float64)
        covered = self._apply(self._overlap, good.astype(np.float64))
        usable = covered > 0
        mean = self._apply(self._overlap, np.where(good, flux, 0).astype(np.float64))
        np.divide(mean, covered, out=mean, where=usable)
        if self.convention == "conserve":
            ivar_out = self._apply(self._overlap, weight / self._width_in)
        else:
            variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=good)
            ivar_out = self._apply(self._overlap.power(2), variance)
            np.divide(covered**2, ivar_out, out=ivar_out, where=usable)
        ivar_out[covered < self.min_coverage * self._width_out * (1 - 1e-9)] = 0.0
        return mean.astype(flux.dtype, copy=False), ivar_out.astype(ivar.dtype, copy=False)

    def covers(self) -> np.ndarray:
        """Return which output pixels, shape (M,), bool, the input grid reaches (by half of their width or more)."""
        if self.offset is not None:
            return self._copy(np.ones((1, len(self.wavelength_in)), dtype=bool))[0]
        reached = np.asarray(self._overlap.sum(axis=1)).ravel()
        return reached >= self.min_coverage * self._width_out * (1 - 1e-9)

    @staticmethod
    def _apply(matrix: sparse.csr_array, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((matrix @ rows.T).T)

    def _copy(self, values: np.ndarray) -> np.ndarray:
        num_in, num_out = len(self.wavelength_in), len(self.wavelength_out)
        begin, end = max(0, -self.offset), min(num_in, num_out - self.offset)
        if begin == 0 and end == num_in == num_out:
            return values.copy()
        copied = np.zeros((*values.shape[:-1], num_out), dtype=values.dtype)
        copied[..., begin + self.offset : end + self.offset] = values[..., begin:end]
        return copied


def resample_spectra(
    wavelength_in: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    wavelength_out: np.ndarray,
    convention: IvarConvention = "per_pixel",
    min_coverage: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Resample spectra once; for many calls with the same grids make a :class:`Resampler` and keep it.

    Parameters
    ----------
    wavelength_in, wavelength_out : array_like, shape (L,) and (M,)
        Pixel centres [AA].
    flux, ivar : ndarray, shape (L,) or (N, L)
        Flux density and its inverse variance.
    convention, min_coverage
        As in :class:`Resampler`.

    Returns
    -------
    flux, ivar : ndarray, shape (M,) or (N, M)
        On the output grid.

    Warns
    -----
    UpsamplingWarning
        The output pixels are narrower than the input pixels somewhere.
    """
    resampler = Resampler(wavelength_in, wavelength_out, convention, min_coverage)
    if resampler.upsampling > 1.01:
        warnings.warn(
            f"output pixels are up to {resampler.upsampling:.1f}x narrower than the input's: neighbours are correlated",
            UpsamplingWarning,
            stacklevel=2,
        )
    flux, ivar = np.asarray(flux), np.asarray(ivar)
    flux_out, ivar_out = resampler(np.atleast_2d(flux), np.atleast_2d(ivar))
    return (flux_out[0], ivar_out[0]) if flux.ndim == 1 else (flux_out, ivar_out)
