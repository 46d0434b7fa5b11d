"""Periods of light curves: periodograms at uneven times, and harmonics. n observations, F frequencies."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hpctrain.errors import DataError
from hpctrain.preprocess.units import plain

Method = Literal["astropy", "nifty-ls"]


def frequencies_of(time_day: Any, highest: float, oversampling: float = 5.0) -> np.ndarray:
    """Return a grid of frequencies [1/day] that resolves every peak of a periodogram, (F,).

    Parameters
    ----------
    time_day : array_like or Quantity, shape (n,)
    highest : float
        Highest frequency [1/day].
    oversampling : float
        Frequencies per width of a peak, which is 1 / (longest distance in time).

    Raises
    ------
    DataError
        The observations span no time.
    """
    time = plain(time_day, "day", "time")
    span = float(np.ptp(time)) if len(time) else 0.0
    if span <= 0:
        raise DataError(f"{len(time)} observations span no time; a period needs two or more nights")
    step = 1 / (oversampling * span)
    return step * np.arange(1, max(2, int(highest / step)) + 1)


def periodogram(
    time_day: Any, value: Any, error: Any, frequency: np.ndarray, terms: int = 1, method: Method = "astropy"
) -> np.ndarray:
    """Return the power of the generalised Lomb-Scargle periodogram at evenly spaced frequencies, (F,), 0 to 1.

    Parameters
    ----------
    time_day : array_like or Quantity, shape (n,)
    value, error : array_like, shape (n,)
        Fluxes or magnitudes, and their standard deviations.
    frequency : ndarray, shape (F,)
        Evenly spaced [1/day], such as those of :func:`frequencies_of`.
    terms : int
        Sines and cosines that are fitted at multiples of the frequency.
    method : {"astropy", "nifty-ls"}
        Who computes it: astropy by FFT with interpolation, or nifty-ls by a non-uniform FFT, which is more exact and
        faster, and needs ``hpctrain[periods]``.

    Raises
    ------
    DataError
        nifty-ls is asked for and absent.

    References
    ----------
    .. [1] Zechmeister & Kuerster 2009, A&A 496, 577.
    .. [2] Garrison, Foreman-Mackey, Shih & Barnett 2024, RNAAS 8, 250: nifty-ls.
    """
    from astropy.timeseries import LombScargle

    name = "fast" if terms == 1 else "fastchi2"
    if method == "nifty-ls":
        try:
            import nifty_ls  # noqa: F401  it adds its methods to astropy's
        except ImportError as missing:
            raise DataError("this periodogram needs nifty-ls; pip install 'hpctrain[periods]'") from missing
        name = "fastnifty" if terms == 1 else "fastnifty_chi2"
    time = plain(time_day, "day", "time")
    found = LombScargle(time, np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64), nterms=terms)
    return np.asarray(found.power(frequency, method=name, assume_regular_frequency=True))


def best_period(frequency: np.ndarray, power: np.ndarray) -> float:
    """Return the period [day] of the highest peak, refined by a parabola through it and its neighbours."""
    at = int(np.argmax(power))
    place = float(frequency[at])
    if 0 < at < len(power) - 1:
        low, high, other = power[at - 1], power[at], power[at + 1]
        bend = low - 2 * high + other
        if bend < 0:
            place += 0.5 * float((low - other) / bend) * float(frequency[1] - frequency[0])
    return 1 / place


def harmonics(
    time_day: Any, value: Any, error: Any, period_day: float, terms: int = 4
) -> dict[str, np.ndarray | float]:
    """Return amplitudes and phases of a sum of sines at multiples of a frequency, by weighted least squares.

    The model is ``offset + sum_k amplitude[k] sin(2 pi k (t - t0) / period + phase[k])``, k from 1, with the first
    observation as t0.

    Parameters
    ----------
    time_day : array_like or Quantity, shape (n,)
    value, error : array_like, shape (n,)
    period_day : float
    terms : int
        K.

    Returns
    -------
    dict
        ``offset``; ``amplitude`` (K,); ``phase`` (K,) [rad], of which those beyond the first are relative to k times
        the first, so that they do not depend on t0, from -pi to pi; ``residual``, the weighted scatter about the
        model divided by that about the mean.

    Raises
    ------
    DataError
        There are fewer observations than coefficients.

    References
    ----------
    .. [1] Debosscher et al. 2007, A&A 475, 1159, section 3: the relative phases.
    """
    time, value, error = (plain(time_day, "day", "time"), *(np.asarray(each, np.float64) for each in (value, error)))
    if len(time) < 2 * terms + 1:
        raise DataError(
            f"{len(time)} observations are fewer than the {2 * terms + 1} coefficients of {terms} harmonics"
        )
    number = np.arange(1, terms + 1)
    angle = 2 * np.pi * np.multiply.outer(time - time.min(), number) / period_day
    design = np.concatenate([np.ones((len(time), 1)), np.sin(angle), np.cos(angle)], axis=1)
    weight = 1 / error
    found = np.linalg.lstsq(design * weight[:, None], value * weight, rcond=None)[0]
    sine, cosine = found[1 : terms + 1], found[terms + 1 :]
    phase = np.arctan2(cosine, sine)
    relative = np.concatenate([phase[:1], phase[1:] - number[1:] * phase[0]])
    mean = np.average(value, weights=weight**2)
    before, after = ((deviation**2 * weight**2).sum() for deviation in (value - mean, value - design @ found))
    return {
        "offset": float(found[0]),
        "amplitude": np.hypot(sine, cosine),
        "phase": np.where(number == 1, relative, (relative + np.pi) % (2 * np.pi) - np.pi),
        "residual": float(np.sqrt(after / before)) if before > 0 else 0.0,
    }


def harmonics_at(time_day: Any, fitted: dict[str, np.ndarray | float], period_day: float) -> np.ndarray:
    """Return the values (n,) of the sum of sines that :func:`harmonics` has fitted to the same times (n,)."""
    time = plain(time_day, "day", "time")
    amplitude, phase = np.asarray(fitted["amplitude"]), np.asarray(fitted["phase"])
    number = np.arange(1, len(phase) + 1)
    absolute = np.where(number == 1, phase, phase + number * phase[0])
    angle = 2 * np.pi * np.multiply.outer(time - time.min(), number) / period_day
    return fitted["offset"] + (amplitude * np.sin(angle + absolute)).sum(axis=1)
