"""Statistics of light curves as columns: shape, bands, periods and harmonics. N curves, n points of one of them."""

from __future__ import annotations

import numpy as np

from hpctrain.ingest.light_curves.periods import each_curve, period_of
from hpctrain.kinds.light_curves.layout import Curves
from hpctrain.kinds.light_curves.statistics import (
    LEVEL_COLUMNS,
    LEVELS,
    NUM_HARMONICS,
    PERIOD,
    PERIODIC,
    PLAIN,
    POWER,
    SHAPES,
    band_columns,
)
from hpctrain.preprocess.periods import harmonics, harmonics_at
from hpctrain.preprocess.statistics import FEWEST, light_curve_statistics

NUM_PERIODS = 3
"""The period of a curve, and those of what remains after its harmonics, and after theirs, are subtracted."""


def find_statistics(curves: Curves, shortest_days: float | None) -> dict[str, np.ndarray]:
    """Return the columns (N,) that ``data.statistics`` reads, and those of levels; NaN where one is not defined.

    All but the levels use the values minus the mean of their band. Those that follow from the period need
    `shortest_days`, and the columns ``ls_period`` and ``ls_power``.

    Parameters
    ----------
    curves : Curves
    shortest_days : float or None
        Shortest period [day]; None leaves out what follows from periods.

    References
    ----------
    .. [1] Debosscher et al. 2007, A&A 475, 1159, and Richards et al. 2011, ApJ 733, 10: three periods, of which the
       later ones are found in the residuals, harmonics, and statistics.
    """
    rows = [_plain(*points) for points in each_curve(curves)]
    levels = [_levels(*points) for points in each_curve(curves, without_means=False)]
    found = dict(zip((*PLAIN, *LEVEL_COLUMNS), np.hstack([rows, levels]).T, strict=True))
    if len(curves.bands) > 1:
        found |= _of_bands(curves)
    if shortest_days is None:
        return found
    known = zip(curves.columns[PERIOD].tolist(), curves.columns[POWER].tolist(), strict=True)
    rows = [_periodic(*points, *pair, shortest_days) for points, pair in zip(each_curve(curves), known, strict=True)]
    return found | dict(zip(PERIODIC, np.array(rows).T, strict=True))


def _plain(time: np.ndarray, value: np.ndarray, error: np.ndarray) -> list[float]:
    if len(time) < FEWEST:
        return [np.nan] * len(PLAIN)
    statistics = light_curve_statistics(time, value, error)
    return [*(statistics[name] for name in SHAPES), float(error.mean()), float((value / error).std())]


def _levels(time: np.ndarray, value: np.ndarray, error: np.ndarray) -> list[float]:
    if len(time) < FEWEST:
        return [np.nan] * len(LEVELS)
    statistics = light_curve_statistics(time, value, error)
    return [statistics[name] for name in LEVELS]


def _of_bands(curves: Curves) -> dict[str, np.ndarray]:
    """Return the mean of each band minus the mean of these means, and its scatter."""
    curve_of = np.repeat(np.arange(len(curves.target_id)), np.diff(curves.offsets))
    at = curve_of * len(curves.bands) + curves.band
    shape = (len(curves.target_id), len(curves.bands))
    value, size = curves.value.astype(np.float64), shape[0] * shape[1]
    weight = curves.error.astype(np.float64) ** -2.0
    with np.errstate(all="ignore"):
        mean = np.bincount(at, weight * value, size) / np.bincount(at, weight, size)
        scatter = np.sqrt(np.bincount(at, (value - mean[at]) ** 2, size) / np.bincount(at, minlength=size))
        of_curve = np.nansum(mean.reshape(shape), axis=1) / np.isfinite(mean.reshape(shape)).sum(axis=1)
    found = {}
    for number, band in enumerate(curves.bands):
        names = band_columns(band)
        found |= {
            names[0]: mean.reshape(shape)[:, number] - of_curve,
            names[1]: scatter.reshape(shape)[:, number],
        }
    return found


def _periodic(
    time: np.ndarray, value: np.ndarray, error: np.ndarray, period: float, power: float, shortest_days: float
) -> list[float]:
    """Return the values of the columns PERIODIC of one curve."""
    if not np.isfinite(period) or len(time) <= 2 * NUM_HARMONICS + 1:
        return [period, power] + [np.nan] * (len(PERIODIC) - 2)
    others: list[float] = []
    rest, latest = value, period
    while len(others) < 2 * (NUM_PERIODS - 1) and np.isfinite(latest):
        rest = rest - harmonics_at(time, harmonics(time, rest, error, latest, NUM_HARMONICS), latest)
        latest, share = period_of(time, rest, error, shortest_days)
        others += [latest, share]
    others += [np.nan] * (2 * (NUM_PERIODS - 1) - len(others))
    return [period, power, *others, *_folded(time, value, error, period), *_folded(time, value, error, 2 * period)]


def _folded(time: np.ndarray, value: np.ndarray, error: np.ndarray, period: float) -> list[float]:
    """Return what one period says: harmonics, and how much neighbours in phase differ, in units of the scatter."""
    found = harmonics(time, value, error, period, NUM_HARMONICS)
    amplitude, phase = np.asarray(found["amplitude"]), np.asarray(found["phase"])
    in_phase = value[np.argsort((time - time[0]) / period % 1.0, kind="stable")]
    scatter = np.median(np.abs(value - np.median(value)))
    steps = np.median(np.abs(np.diff(in_phase)))
    with np.errstate(all="ignore"):
        ratios = [amplitude[1] / amplitude[0], found["residual"], steps / scatter]
    return [*amplitude.tolist(), *phase[1:].tolist(), *map(float, ratios)]
