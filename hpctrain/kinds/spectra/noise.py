"""Compare the noise in spectra, measured by the differences of neighbouring pixels, with the errors beside them.

Legend: N spectra, L pixels, B blocks of neighbouring pixels.

For good spectra the reduced chi-square of the differences is 1 in every block (0.8 to 1.5 for SDSS and DESI). If a
column holds sigma or the variance instead of ``ivar``, another power of it gives 1; if flux and errors are in different
units, the result is far from 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LAGS = (1, 4, 16)
"""Distances of the compared pixels. Resampling makes near neighbours similar, and lines make distant ones differ."""

_BLOCK_PIXELS, _MAX_BLOCKS = 64, 16
_FEWEST_BLOCKS = 64
"""Smallest number of blocks from which the noise is judged."""

_WRONG_POWER = 0.3
"""Median departure from ``ivar`` [dex] above which the column may hold something else: a factor of 2."""

_MEDIAN_CHI2 = 0.4549
"""Median of the square of a normal deviate."""

_POWERS = {"ivar": -1.0, "sigma": 2.0, "variance": 1.0}
"""Quantities that a column of errors may hold, and the power of each that is the variance."""


@dataclass(frozen=True)
class Noise:
    """How the noise in the flux compares with the errors that come with it.

    Parameters
    ----------
    departure_dex : float
        Median over blocks of the log10 of the reduced chi-square of pixel differences; 0 for good spectra.
    looks_like : str
        Quantity that the column of errors seems to hold: ``ivar``, ``sigma`` or ``variance``.
    """

    departure_dex: float
    looks_like: str


def judge_noise(flux: np.ndarray, errors: np.ndarray, held_as: str = "ivar") -> Noise | None:
    """Compare the noise in the flux with the errors that come with it.

    Parameters
    ----------
    flux, errors : ndarray, shape (N, L), float32 or float64
        Cleaned values: finite, and errors 0 where a pixel is masked.
    held_as : {"ivar", "sigma", "variance"}
        What `errors` are meant to be. Only clear evidence makes them look like something else.

    Returns
    -------
    Noise or None
        None where too few pixels have noise.
    """
    power = _POWERS[held_as]
    found = [(lag, ratio) for lag in _LAGS if len(ratio := _blocks(flux, errors, lag, power)) >= _FEWEST_BLOCKS]
    if not found:
        return None
    lag, ratio = min(found, key=lambda each: _size(each[1]))
    size, looks_like = _size(ratio), held_as
    if size > _WRONG_POWER:
        for name in (name for name in _POWERS if name != held_as):
            other = _blocks(flux, errors, lag, _POWERS[name])
            if len(other) and _size(other) < min(size / 3, 0.5) and _spread(other) < _spread(ratio):
                size, looks_like = 3 * _size(other), name  # the next one must be even better
    return Noise(float(np.median(ratio)), looks_like)


def _blocks(flux: np.ndarray, errors: np.ndarray, lag: int, power: float) -> np.ndarray:
    """Return log10 of the reduced chi-square of pixel differences in blocks of neighbouring pixels, (B,), float64.

    The difference is ``f[i] - (f[i - lag] + f[i + lag]) / 2``, which a straight slope does not change. The variance
    of a pixel is taken to be ``errors ** power``. Lines and cosmic rays hardly change the median over the block.
    """
    num_pixels = flux.shape[1]
    width = min(_BLOCK_PIXELS, num_pixels - 2 * lag)
    if width < _BLOCK_PIXELS // 4:
        return np.empty(0)
    num_blocks = min(_MAX_BLOCKS, (num_pixels - 2 * lag) // width)
    starts = np.linspace(lag, num_pixels - lag - width, num_blocks).astype(np.int64)
    middle = starts[:, None] + np.arange(width)
    places = (middle, middle - lag, middle + lag)
    here, before, after = (flux[:, at].astype(np.float64) for at in places)
    weights = [errors[:, at].astype(np.float64) for at in places]
    good = (weights[0] > 0) & (weights[1] > 0) & (weights[2] > 0)
    variances = [np.where(good, weight, 1.0) ** power for weight in weights]
    chi2 = (here - 0.5 * (before + after)) ** 2 / (variances[0] + 0.25 * (variances[1] + variances[2]))
    median = _median(chi2, good) / _MEDIAN_CHI2
    usable = (good.sum(axis=2) >= width // 2) & (median > 0) & np.isfinite(median)
    return np.log10(median[usable])


def _median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the lower median of the good values along the last axis; infinite if there are none."""
    ordered = np.sort(np.where(good, values, np.inf), axis=-1)
    middle = np.maximum(good.sum(axis=-1, keepdims=True) - 1, 0) // 2
    return np.take_along_axis(ordered, middle, axis=-1)[..., 0]


def _size(values: np.ndarray) -> float:
    return float(np.median(np.abs(values)))


def _spread(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values))))
