"""Numbers that describe a light curve without a model. n observations of times t, values m and errors e."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.preprocess.units import plain

Times = np.ndarray
FEWEST = 5
"""Smallest number of observations; some statistics need a few degrees of freedom."""


def light_curve_statistics(time_day: Any, value: Any, error: Any) -> dict[str, float]:
    """Return all statistics of `STATISTICS` by name.

    Parameters
    ----------
    time_day : array_like or Quantity, shape (n,)
        In any order.
    value : array_like, shape (n,)
        Magnitudes or fluxes.
    error : array_like, shape (n,)
        Standard deviations, above 0.

    Returns
    -------
    dict of str to float
        NaN where a statistic is not defined, such as the skewness of a constant.

    Raises
    ------
    DataError
        There are fewer than five observations, the lengths differ, a number is not finite, or an error is not positive.

    References
    ----------
    .. [1] Richards et al. 2011, ApJ 733, 10: most of the statistics.
    .. [2] D'Isanto et al. 2016, MNRAS 457, 3119; Malanchev et al. 2021, MNRAS 502, 5147: the definitions used here.
    """
    t, m, e = (plain(time_day, "day", "time"), *(np.asarray(each, dtype=np.float64) for each in (value, error)))
    if not len(t) == len(m) == len(e) >= FEWEST:
        message = f"{len(t)} times, {len(m)} values and {len(e)} errors; {FEWEST} or more of each are needed"
        raise DataError(message)
    if not (np.isfinite(t).all() and np.isfinite(m).all() and np.isfinite(e).all() and (e > 0).all()):
        raise DataError("a time, value or error is not finite, or an error is not above 0; leave such observations out")
    order = np.argsort(t, kind="stable")
    t, m, e = t[order], m[order], e[order]
    with np.errstate(all="ignore"):
        return {name: float(compute(t, m, e)) for name, compute in STATISTICS.items()}


def _weighted_mean(m: np.ndarray, e: np.ndarray) -> float:
    return float(np.average(m, weights=e**-2.0))


def _moment(m: np.ndarray, power: int) -> float:
    return float(((m - m.mean()) ** power).mean())


def _skew(m: np.ndarray) -> float:
    """Return the unbiased skewness G1."""
    num = len(m)
    return np.sqrt(num * (num - 1)) / (num - 2) * _moment(m, 3) / np.float64(_moment(m, 2)) ** 1.5


def _kurtosis(m: np.ndarray) -> float:
    """Return the unbiased excess kurtosis G2."""
    num = len(m)
    excess = _moment(m, 4) / np.float64(_moment(m, 2)) ** 2 - 3
    return (num - 1) / ((num - 2) * (num - 3)) * ((num + 1) * excess + 6)


def _quantile(m: np.ndarray, share: float) -> float:
    """Return a quantile by the rule of Hazen, which puts observation i at (i + 0.5) / n."""
    return float(np.quantile(m, share, method="hazen"))


def _between(m: np.ndarray, share: float) -> float:
    return _quantile(m, 1 - share) - _quantile(m, share)


def _slopes(t: np.ndarray, m: np.ndarray) -> np.ndarray:
    return np.diff(m) / np.diff(t)


def _eta(m: np.ndarray) -> float:
    """Return the von Neumann ratio: 2 for white noise, small for smooth curves."""
    return float((np.diff(m) ** 2).sum() / ((len(m) - 1) * np.float64(m.var(ddof=1))))


def _eta_e(t: np.ndarray, m: np.ndarray) -> float:
    slopes = _slopes(t, m)
    return float((t[-1] - t[0]) ** 2 * (slopes**2).sum() / ((len(m) - 1) ** 3 * np.float64(m.var(ddof=1))))


def _cusum(m: np.ndarray) -> float:
    total = np.cumsum(m - m.mean()) / (len(m) * np.float64(m.std(ddof=1)))
    return float(total.max() - total.min())


def _stetson_k(m: np.ndarray, e: np.ndarray) -> float:
    """Return the kurtosis K of Stetson 1996, PASP 108, 851: 0.798 for a normal distribution, 0.9 for a sine."""
    pulls = (m - _weighted_mean(m, e)) / e
    return float(np.abs(pulls).sum() / np.sqrt(len(m) * (pulls**2).sum()))


def _reduced_chi2(m: np.ndarray, e: np.ndarray) -> float:
    return float((((m - _weighted_mean(m, e)) / e) ** 2).sum() / (len(m) - 1))


def _excess_variance(m: np.ndarray, e: np.ndarray) -> float:
    return float((m.var(ddof=1) - (e**2).mean()) / np.float64(m.mean()) ** 2)


def _trend(t: np.ndarray, m: np.ndarray) -> tuple[float, float]:
    """Return slope of a straight line without weights, and its standard deviation from the residuals."""
    x = t - t.mean()
    slope = float((x * m).sum() / (x**2).sum())
    residual = m - m.mean() - slope * x
    return slope, float(np.sqrt((residual**2).sum() / ((len(m) - 2) * (x**2).sum())))


def _beyond(m: np.ndarray, number: float) -> float:
    return float((np.abs(m - m.mean()) > number * m.std(ddof=1)).mean())


def _anderson_darling(m: np.ndarray) -> float:
    """Return the statistic of Anderson and Darling for a normal distribution, with the factor for small samples."""
    from scipy.special import log_ndtr

    num = len(m)
    place = np.sort((m - m.mean()) / np.float64(m.std(ddof=1)))
    number = np.arange(1, num + 1)
    total = ((2 * number - 1) * (log_ndtr(place) + log_ndtr(-place[::-1]))).sum()
    return float((1 + 4 / num - 25 / num**2) * (-num - total / num))


STATISTICS: dict[str, Callable[[Times, np.ndarray, np.ndarray], float]] = {
    "count": lambda t, m, e: len(m),
    "duration": lambda t, m, e: t[-1] - t[0],
    "longest_gap": lambda t, m, e: np.diff(t).max(),
    "shortest_gap": lambda t, m, e: np.diff(t).min(),
    "mean": lambda t, m, e: m.mean(),
    "weighted_mean": lambda t, m, e: _weighted_mean(m, e),
    "median": lambda t, m, e: np.median(m),
    "standard_deviation": lambda t, m, e: m.std(ddof=1),
    "mean_variance": lambda t, m, e: m.std(ddof=1) / np.float64(m.mean()),
    "amplitude": lambda t, m, e: np.ptp(m) / 2,
    "percent_amplitude": lambda t, m, e: np.abs(m - np.median(m)).max(),
    "median_absolute_deviation": lambda t, m, e: np.median(np.abs(m - np.median(m))),
    "skewness": lambda t, m, e: _skew(m),
    "kurtosis": lambda t, m, e: _kurtosis(m),
    "beyond_1_sigma": lambda t, m, e: _beyond(m, 1),
    "beyond_2_sigma": lambda t, m, e: _beyond(m, 2),
    "range_50": lambda t, m, e: _between(m, 0.25),
    "range_80": lambda t, m, e: _between(m, 0.1),
    "range_20_over_90": lambda t, m, e: _between(m, 0.4) / np.float64(_between(m, 0.05)),
    "near_median": lambda t, m, e: (np.abs(m - np.median(m)) < 0.1 * np.ptp(m) / 2).mean(),
    "anderson_darling": lambda t, m, e: _anderson_darling(m),
    "von_neumann": lambda t, m, e: _eta(m),
    "von_neumann_in_time": lambda t, m, e: _eta_e(t, m),
    "cusum": lambda t, m, e: _cusum(m),
    "steepest_slope": lambda t, m, e: np.abs(_slopes(t, m)).max(),
    "trend": lambda t, m, e: _trend(t, m)[0],
    "trend_error": lambda t, m, e: _trend(t, m)[1],
    "stetson_k": lambda t, m, e: _stetson_k(m, e),
    "reduced_chi2": lambda t, m, e: _reduced_chi2(m, e),
    "excess_variance": lambda t, m, e: _excess_variance(m, e),
}
"""Name and function of each statistic."""
