"""Periods of light curves by a Lomb-Scargle periodogram. N curves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.layout import Curves
from hpctrain.kinds.light_curves.statistics import PERIOD, POWER

SAMPLES_PER_PEAK = 5
FEWEST_POINTS = 6
MOST_FREQUENCIES = 2_000_000


def find_periods(curves: Curves, shortest_days: float) -> dict[str, np.ndarray]:
    """Return the period of each curve and its power, as columns (N,).

    The mean of each band is subtracted, so that all bands together give one periodogram with a floating mean. Its
    frequencies go from one cycle per length of the curve to ``1 / shortest_days``.

    Parameters
    ----------
    curves : Curves
    shortest_days : float
        Shortest period [day].

    Raises
    ------
    DataError
        A curve is so long that the periodogram would have more than two million frequencies.

    References
    ----------
    .. [1] VanderPlas 2018, ApJS 236, 16, arXiv:1703.09824: aliases, and how fine the frequencies must be.
    """
    found = [period_of(*points, shortest_days) for points in each_curve(curves)]
    period, power = (np.array(values) for values in zip(*found, strict=True))
    return {PERIOD: period, POWER: power}


def each_curve(curves: Curves, without_means: bool = True) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield times, values, without the mean of their band if so asked, and errors of each curve."""
    for begin, end in zip(curves.offsets[:-1].tolist(), curves.offsets[1:].tolist(), strict=True):
        time, error, band = (array[begin:end] for array in (curves.time, curves.error, curves.band))
        value = curves.value[begin:end].astype(np.float64)
        for number in np.unique(band).tolist() if without_means else ():
            here = band == number
            value[here] -= np.average(value[here], weights=error[here].astype(np.float64) ** -2.0)
        yield time, value, error


def period_of(time: np.ndarray, value: np.ndarray, error: np.ndarray, shortest_days: float) -> tuple[float, float]:
    """Return the best period of one curve (n,) and its power, as :func:`find_periods` does."""
    span = float(time[-1] - time[0]) if len(time) else 0.0
    if len(time) < FEWEST_POINTS or span <= shortest_days or not value.std() > 0:
        return np.nan, np.nan
    step = 1.0 / (SAMPLES_PER_PEAK * span)
    number = int((1.0 / shortest_days - 1.0 / span) / step) + 1
    if number > MOST_FREQUENCIES:
        raise DataError(
            f"a curve of {span:.0f} days needs {number:,} frequencies for periods down to {shortest_days:g} days; at "
            f"most {MOST_FREQUENCIES:,} are computed. Give a longer one, such as --periods "
            f"{SAMPLES_PER_PEAK * span / MOST_FREQUENCIES:.2g}"
        )
    weight = error.astype(np.float64) ** -2.0
    time = time - time[0]
    power = periodogram(time, value, weight, 1.0 / span, step, number)
    best = 1.0 / span + step * int(np.argmax(power))
    # Once more, fifty times finer, around the best frequency.
    low = max(best - step, 0.5 * best)
    finer = periodogram(time, value, weight, low, 0.02 * step, 101)
    at = int(np.argmax(finer))
    return 1.0 / (low + 0.02 * step * at), float(finer[at])


def periodogram(
    time: np.ndarray, value: np.ndarray, weight: np.ndarray, first: float, step: float, number: int
) -> np.ndarray:
    """Return the power of a generalised Lomb-Scargle periodogram on a regular grid of frequencies.

    Each exponential is a product of one of a coarse and one of a fine frequency, so that all sums are products of two
    small matrices. This is some ten times faster than the fast Fourier transform of astropy for a few hundred points.

    Parameters
    ----------
    time, value, weight : ndarray, shape (n,), float64
        Times [day], values, inverse variances.
    first, step : float
        First frequency and distance of frequencies [1 / day].
    number : int
        Number F of frequencies.

    Returns
    -------
    ndarray, shape (F,), float64
        0 to 1: the share of chi-square that a sine with a floating mean explains.

    References
    ----------
    .. [1] Zechmeister & Kurster 2009, A&A 496, 577, arXiv:0901.2573, eqs. 4 to 15.
    """
    weight = weight / weight.sum()
    value = value - (weight * value).sum()
    size = int(np.ceil(np.sqrt(number)))
    fine = np.exp(2j * np.pi * step * np.outer(np.arange(size), time))
    coarse = np.exp(2j * np.pi * np.outer(first + step * size * np.arange(-(-number // size)), time))
    sums = [
        ((left * factor).astype(np.complex64) @ right.T.astype(np.complex64)).reshape(-1)[:number].astype(np.complex128)
        for left, right, factor in (
            (coarse, fine, weight),
            (coarse, fine, weight * value),
            (coarse**2, fine**2, weight),
        )
    ]
    one, y, two = sums
    cc = 0.5 * (1 + two.real) - one.real**2
    ss = 0.5 * (1 - two.real) - one.imag**2
    cs = 0.5 * two.imag - one.real * one.imag
    determinant = np.maximum(cc * ss - cs**2, 1e-12)
    explained = (ss * y.real**2 + cc * y.imag**2 - 2 * cs * y.real * y.imag) / determinant
    return np.clip(explained / max(float((weight * value**2).sum()), 1e-300), 0.0, 1.0)
