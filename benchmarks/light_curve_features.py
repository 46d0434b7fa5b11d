"""Plain features of light curves for a random forest: period, harmonics, statistics. n points of a curve."""

from __future__ import annotations

import numpy as np
from scipy.stats import kurtosis, skew

from hpctrain.kinds.light_curves.layout import Curves

NUM_HARMONICS = 4


def features_of(curves: Curves, period: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return the features of all curves, shape (N, F).

    Parameters
    ----------
    curves : Curves
    period, power : ndarray, shape (N,)
        Best period [day] and its power; NaN where there is none.

    References
    ----------
    .. [1] Debosscher et al. 2007, arXiv:0711.0703, and Richards et al. 2011, arXiv:1101.1959: harmonics of the
       period and statistics.
    """
    rows = []
    for number, (begin, end) in enumerate(zip(curves.offsets[:-1].tolist(), curves.offsets[1:].tolist(), strict=True)):
        time, value, error, band = (
            array[begin:end].astype(np.float64) for array in (curves.time, curves.value, curves.error, curves.band)
        )
        flat, offsets = _without_band_means(value, error, band, len(curves.bands))
        found = [np.log10(period[number]), power[number], np.log10(len(time)), np.ptp(time), np.log10(error.mean())]
        found += [*_statistics(flat, error), *_by_band(flat, band, len(curves.bands)), *offsets]
        for factor in (1.0, 2.0):
            found += _harmonics(time, flat, error, factor * period[number])
        rows.append(found)
    return np.nan_to_num(np.array(rows), nan=-99.0, posinf=-99.0, neginf=-99.0)


def _without_band_means(value: np.ndarray, error: np.ndarray, band: np.ndarray, num: int) -> tuple[np.ndarray, list]:
    """Return values without the mean of their band, and the differences of the means of neighbouring bands."""
    flat, means = value.copy(), np.full(num, np.nan)
    for number in range(num):
        here = band == number
        if here.any():
            means[number] = np.average(value[here], weights=error[here] ** -2.0)
            flat[here] -= means[number]
    return flat, np.diff(means).tolist()


def _statistics(value: np.ndarray, error: np.ndarray) -> list[float]:
    low, q25, q75, high = np.percentile(value, [5, 25, 75, 95])
    scatter = value.std()
    if len(value) < 4 or not scatter > 0:
        return [scatter, high - low, q75 - q25, *[np.nan] * 6]
    steps = np.diff(value)
    return [
        scatter,
        high - low,
        q75 - q25,
        float(skew(value)),
        float(kurtosis(value)),
        float((steps**2).mean() / scatter**2),
        float((np.abs(value - np.median(value)) > scatter).mean()),
        float(np.percentile(value, 10) + np.percentile(value, 90) - 2 * np.median(value)) / scatter,
        float((value / error).std()),
    ]


def _by_band(value: np.ndarray, band: np.ndarray, num: int) -> list[float]:
    if num == 1:
        return []
    parts = [value[band == number] for number in range(num)]
    return [number for part in parts for number in (len(part), part.std() if len(part) > 1 else np.nan)]


def _harmonics(time: np.ndarray, value: np.ndarray, error: np.ndarray, period: float) -> list[float]:
    """Return amplitudes of a fit of harmonics, their ratios, their phases relative to the first, and what is left."""
    if not np.isfinite(period) or len(time) < 2 * NUM_HARMONICS + 3:
        return [np.nan] * (2 * NUM_HARMONICS + 1)
    angle = 2 * np.pi * np.outer((time - time[0]) / period, np.arange(1, NUM_HARMONICS + 1))
    design = np.concatenate([np.ones((len(time), 1)), np.sin(angle), np.cos(angle)], axis=1) / error[:, None]
    solution = np.linalg.lstsq(design, value / error, rcond=1e-6)[0]
    sine, cosine = solution[1 : NUM_HARMONICS + 1], solution[NUM_HARMONICS + 1 :]
    amplitude, phase = np.hypot(sine, cosine), np.arctan2(cosine, sine)
    order = np.arange(2, NUM_HARMONICS + 1)
    relative = (phase[1:] - order * phase[0] + np.pi) % (2 * np.pi) - np.pi
    left = float((value - error * (design @ solution)).std() / max(value.std(), 1e-12))
    return [*np.log10(amplitude + 1e-6).tolist(), *relative.tolist(), left, float(amplitude[1] / (amplitude[0] + 1e-9))]
