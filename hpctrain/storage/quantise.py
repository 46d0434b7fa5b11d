"""Round spectra far below the noise, so that the file can be compressed.

The last bits of a flux are noise, which no compressor can shorten. Each flux is rounded to a multiple of a power of two
that is at most an eighth of its sigma. This changes it by 0.027 sigma rms (0.063 at most), which is 0.07 % more
variance, and the file shrinks to about a quarter. The step depends only on the stored inverse variance, so a second
rounding changes nothing.
"""

from __future__ import annotations

import numpy as np

STEPS_PER_SIGMA = 8
MANTISSA_BITS = 8
"""Bits of ivar's significand, including the leading one; the error is 2^-8 (0.39 %) at most."""

STEP_RULE = (
    f"flux is a multiple of the largest power of two that is at most sigma / {STEPS_PER_SIGMA}, with sigma = ivar ** "
    f"-0.5 of the ivar that is stored; ivar has a significand of {MANTISSA_BITS} bits; flux is 0 where ivar is not "
    "positive and finite"
)

_KEPT_BITS = np.uint32(0xFFFF0000)  # sign, exponent and 7 bits behind the leading one
_HALF = np.uint32(0x7FFF)
_INTEGERS_END = np.float32(2**23)
"""Smallest number from which on float32 holds integers only: rounding changes nothing, and scaling may overflow."""


def quantise(flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round spectra.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, L), float32

    Returns
    -------
    flux, ivar : ndarray, shape (n, L), float32
        Spectra rounded by `STEP_RULE`. A flux that is not finite remains if ivar gives it weight, and so does an
        invalid ivar, so that bad pixels can still be recognised.
    """
    is_weight = np.isfinite(ivar) & (ivar > 0)
    rounded_ivar = np.where(is_weight, _round_significand(ivar), ivar)
    exponent = step_exponent(np.where(is_weight, rounded_ivar, np.float32(1)))
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.ldexp(flux, -exponent)
        rounded = np.where(np.abs(steps) < _INTEGERS_END, np.ldexp(np.rint(steps), exponent), flux)
    rounded += np.float32(0)  # no negative zeros: the compressor has one pattern less
    return np.where(is_weight, rounded, np.float32(0)), rounded_ivar


def step_exponent(ivar: np.ndarray) -> np.ndarray:
    """Return log2 of the step of each pixel: the integer part of log2(sigma / 8), exactly, without a logarithm.

    Parameters
    ----------
    ivar : ndarray, float32
        Positive and finite inverse variance.

    Returns
    -------
    ndarray, int32
    """
    significand, exponent = np.frexp(ivar)  # ivar = significand 2^exponent, significand in [0.5, 1)
    half, is_odd = exponent >> 1, exponent & 1
    # Even: sigma = significand^-0.5 2^-half with a factor in (1, sqrt 2]. Odd: that over sqrt 2, in (0.7, 1].
    return -half - (is_odd & (significand != 0.5)) - (STEPS_PER_SIGMA.bit_length() - 1)


def _round_significand(values: np.ndarray) -> np.ndarray:
    """Round positive finite numbers to the nearest number with few bits, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    with np.errstate(over="ignore"):
        rounded = ((bits + _HALF + ((bits >> np.uint32(16)) & np.uint32(1))) & _KEPT_BITS).view(np.float32)
    return np.where(np.isfinite(rounded), rounded, values)  # the largest numbers would round to infinity
