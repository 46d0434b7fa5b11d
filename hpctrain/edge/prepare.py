"""Prepare the spectra of a file for an exported network, and turn its outputs into rows of a catalogue.

The arithmetic is that of :func:`hpctrain.kinds.spectra.transform.normalise` and
:class:`hpctrain.kinds.spectra.rest_grid.RestGrid`, in numpy, so that a device needs no torch; tests compare the two.
The place of a pixel on the rest grid needs double precision; it is computed here and not in the network, because
TensorRT has no float64.

Legend: N spectra, L observed pixels, R rest-frame pixels, S latents, B bins, W pixels of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.families.spectral_vae.catalogue import ENCODED, NO_DATA, OUTSIDE, REJECTED
from hpctrain.kinds.spectra.chi2 import reduced_chi2_of_arrays
from hpctrain.kinds.spectra.norm import clean, find_norm
from hpctrain.kinds.spectra.redshift import is_redshift

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Prepared:
    """Spectra ready for the network, and the values that its outputs are scaled back with.

    Parameters
    ----------
    feeds : dict of ndarray, float32
        Inputs of all networks by name: ``flux``, ``ivar``, ``phase``, ``pixel``, ``fraction`` (N, L), ``bins``
        (N, 2 B), ``redshift`` (N,). ``pixel`` is the rest pixel below each observed pixel, or -1 off the rest grid;
        ``fraction`` is what is left of its place. Float32 holds such integers exactly, and places less precisely.
    position : ndarray, shape (N, L), float64
        Place of each pixel on the rest grid, as a fractional index.
    norm : ndarray, shape (N,), float32
        Median flux of the window the spectrum was divided by; 1 where it was rejected.
    window : ndarray, shape (N,), int8
        Index of that window; -1 where the spectrum was rejected.
    has_data : ndarray, shape (N,), bool
        Whether the spectrum had a valid pixel and a redshift before normalisation.
    """

    feeds: dict[str, np.ndarray]
    position: np.ndarray
    norm: np.ndarray
    window: np.ndarray
    has_data: np.ndarray


@dataclass(frozen=True)
class Preparation:
    """Prepare spectra for one network.

    Parameters
    ----------
    windows_aa : tuple of (float, float)
        Rest-frame normalisation windows [AA]; the first one that fits is used.
    min_snr : float
        Lowest signal to noise ratio of the norm.
    log_start, log_step : float
        Rest grid: natural log of its first wavelength [AA], and its step.
    num_rest_pixels : int
        R.
    num_bins : int
        B, the number of broad rest-frame bins that the network reads in addition to the pixels.
    """

    windows_aa: tuple[tuple[float, float], ...]
    min_snr: float
    log_start: float
    log_step: float
    num_rest_pixels: int
    num_bins: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preparation:
        """Read back what :meth:`to_json` returned."""
        windows = tuple((float(low), float(high)) for low, high in values["windows_aa"])
        return cls(**{**values, "windows_aa": windows})

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``."""
        return {**self.__dict__, "windows_aa": [list(window) for window in self.windows_aa]}

    @property
    def rest_wavelength_aa(self) -> np.ndarray:
        """Rest-frame wavelengths, shape (R,), float64 [AA]."""
        return np.exp(self.log_start + self.log_step * np.arange(self.num_rest_pixels))

    def __call__(self, flux: np.ndarray, ivar: np.ndarray, wavelength_aa: np.ndarray, redshift: np.ndarray) -> Prepared:
        """Clean, normalise and place spectra.

        Parameters
        ----------
        flux, ivar : ndarray, shape (N, L)
            Values of the file; ivar 0 masks a pixel. Pixels that are not finite, or have a negative `ivar`, get no
            weight.
        wavelength_aa : ndarray, shape (L,) or (N, L)
            Observed vacuum wavelengths [AA], increasing.
        redshift : ndarray, shape (N,)
            NaN, or at most -0.03, where it is not known; such spectra get no weight.

        Returns
        -------
        Prepared
        """
        redshift = np.asarray(redshift, dtype=np.float32)
        is_known = is_redshift(redshift)
        redshift = np.where(is_known, redshift, np.float32(0))
        wavelength = np.asarray(wavelength_aa, dtype=np.float32)
        flux, ivar = clean(flux, ivar)
        ivar[~is_known] = 0
        has_data = (ivar > 0).any(axis=1)
        norm, window = find_norm(flux, ivar, wavelength, redshift, self.windows_aa, self.min_snr)
        visible = (window >= 0)[:, None] & (ivar > 0)
        flux = np.where(visible, flux / norm[:, None], np.float32(0))
        ivar = np.where(visible, ivar * norm[:, None] * norm[:, None], np.float32(0))
        position = self._position(wavelength, redshift)
        pixel, fraction, covered = self._place(position)
        feeds = {
            "flux": flux,
            "ivar": ivar,
            "phase": np.clip(position / (self.num_rest_pixels - 1), -1, 2).astype(np.float32),
            "pixel": np.where(covered, pixel, -1).astype(np.float32),
            "fraction": fraction,
            "bins": self._bins(flux, ivar, wavelength, redshift),
            "redshift": redshift,
        }
        return Prepared(feeds, position, norm, window, has_data)

    def _position(self, wavelength: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        log_wavelength = np.log(np.maximum(wavelength.astype(np.float64), 1e-3))
        log_shift = np.log1p(redshift.astype(np.float64))
        return (np.atleast_2d(log_wavelength) - log_shift[:, None] - self.log_start) / self.log_step

    def _place(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rest pixel below each position, the fraction above it (float32), and which are on the grid."""
        lower = np.floor(np.clip(position, 0, self.num_rest_pixels - 2))
        covered = (position >= 0) & (position <= self.num_rest_pixels - 1)
        return lower, np.clip(position - lower, 0, 1).astype(np.float32), covered

    def _bins(self, flux: np.ndarray, ivar: np.ndarray, wavelength: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Return compressed means and weights of broad rest-frame bins, (N, 2 B)."""
        num_pixels = math.ceil(self.num_rest_pixels / self.num_bins) * self.num_bins
        rest = np.exp(self.log_start + self.log_step * np.linspace(0, self.num_rest_pixels - 1, num_pixels))
        mean = np.zeros((len(flux), self.num_bins), dtype=np.float32)
        weight = np.zeros_like(mean)
        excess = np.where(ivar > 0, flux - np.float32(1), np.float32(0))
        for row in range(len(flux)):
            grid = (wavelength if wavelength.ndim == 1 else wavelength[row]).astype(np.float64)
            observed = rest * (1.0 + float(redshift[row]))
            middle = 0.5 * (grid[1:] + grid[:-1])
            index = np.searchsorted(middle, observed)
            inside = (observed >= 2 * grid[0] - middle[0]) & (observed <= 2 * grid[-1] - middle[-1])
            each = np.where(inside, ivar[row, index], np.float32(0))
            total = each.reshape(self.num_bins, -1).sum(axis=1)
            mean[row] = (each * excess[row, index]).reshape(self.num_bins, -1).sum(axis=1) / np.maximum(total, _TINY)
            weight[row] = total
        return np.concatenate(
            [np.arcsinh(mean * (weight / (weight + 1))), np.float32(0.2) * np.arcsinh(np.sqrt(weight))], axis=1
        )

    def reconstruct(self, prepared: Prepared, rest_flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interpolate the decoder's spectrum to the observed pixels.

        Parameters
        ----------
        prepared : Prepared
        rest_flux : ndarray, shape (N, R), float32
            Output of the network: normalised flux on the rest grid.

        Returns
        -------
        reconstruction : ndarray, shape (N, L), float32
            Normalised flux.
        covered : ndarray, shape (N, L), bool
            Pixels on the rest grid; elsewhere the reconstruction has no meaning.
        """
        lower, fraction, covered = self._place(prepared.position)
        index = lower.astype(np.int64)
        left = np.take_along_axis(rest_flux, index, axis=1)
        right = np.take_along_axis(rest_flux, index + 1, axis=1)
        return left + fraction * (right - left), covered

    def catalogue(self, prepared: Prepared, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the results of each spectrum, as columns of the catalogue that ``hpctrain encode`` writes.

        Parameters
        ----------
        prepared : Prepared
        outputs : mapping of ndarray
            Outputs of the network: ``latents`` (N, S) and ``rest_flux`` (N, R).

        Returns
        -------
        dict of ndarray, each of length N
            ``LATENT_VEC`` (N, S) float32, ``RECON_MSE``, ``NORM``, ``WINDOW``, ``NUM_PIXELS``, ``STATUS``; NaN where
            STATUS is not 0.
        """
        reconstruction, covered = self.reconstruct(prepared, outputs["rest_flux"])
        count = ((prepared.feeds["ivar"] > 0) & covered).sum(axis=1)
        status = np.full(len(count), ENCODED, dtype=np.uint8)
        status[count == 0] = OUTSIDE
        status[prepared.window < 0] = REJECTED
        status[~prepared.has_data] = NO_DATA
        unused = status != ENCODED
        chi2 = reduced_chi2_of_arrays(prepared.feeds["flux"], reconstruction, prepared.feeds["ivar"], covered)
        return {
            "LATENT_VEC": np.where(unused[:, None], np.float32(np.nan), outputs["latents"]),
            "RECON_MSE": np.where(unused, np.float32(np.nan), chi2),
            "NORM": np.where(prepared.window < 0, np.float32(np.nan), prepared.norm),
            "WINDOW": prepared.window,
            "NUM_PIXELS": count.astype(np.int32),
            "STATUS": status,
        }
