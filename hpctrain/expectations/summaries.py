"""Numbers that describe an array with many values per row: spectra, images, light curves. n rows, P values per row."""

from __future__ import annotations

import numpy as np

from hpctrain.kinds.spectra.pixels import count_pixels
from hpctrain.kinds.spectra.snr import signal_to_noise_of_arrays

MOST_COLUMNS = 64
"""An array with at most so many values per row is taken as so many columns."""

Columns = dict[str, np.ndarray]


def summarised(name: str, values: np.ndarray) -> Columns:
    """Return columns that stand for an array with several values per row.

    Parameters
    ----------
    name : str
    values : ndarray, shape (n, S) or (n, ...)
        Numbers.

    Returns
    -------
    dict of ndarray, shape (n,)
        ``name[k]`` for at most 64 values per row; else ``name:median``, ``name:spread`` (standard deviation) and
        ``name:bad``, the share of values that are not finite.
    """
    flat = values.reshape(len(values), -1)
    if flat.shape[1] <= MOST_COLUMNS:
        return {f"{name}[{place}]": flat[:, place] for place in range(flat.shape[1])}
    return _described(name, flat)


def _described(name: str, flat: np.ndarray) -> Columns:
    flat = flat.astype(np.float32, copy=False) if flat.dtype.kind != "f" or flat.dtype.itemsize < 4 else flat
    good = np.isfinite(flat)
    number = good.sum(axis=1)
    if number.sum() == flat.size:
        median, spread = np.median(flat, axis=1), flat.std(axis=1, dtype=np.float64)
    else:
        some = number > 0
        median, spread = np.full(len(flat), np.nan), np.full(len(flat), np.nan)
        known = np.where(good[some], flat[some], np.nan)
        median[some], spread[some] = np.nanmedian(known, axis=1), np.nanstd(known, axis=1, dtype=np.float64)
    return {
        f"{name}:median": np.asarray(median, dtype=np.float64),
        f"{name}:spread": spread,
        f"{name}:bad": 1 - number / flat.shape[1],
    }


def of_spectra(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray | None) -> Columns:
    """Return columns that stand for spectra.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, P)
    mask : ndarray, shape (n, P), optional
        Not 0 where a pixel is bad.
    """
    flux, ivar = flux.astype(np.float32, copy=False), ivar.astype(np.float32, copy=False)
    counts = count_pixels(flux, ivar, mask)
    clean = np.where(counts.used, flux, 0)
    weights = np.where(counts.used, ivar, 0)
    num_used = counts.used.sum(axis=1)
    known = np.where(counts.used, flux, np.nan)[num_used > 0]
    median = np.full(len(flux), np.nan)
    if len(known):
        median[num_used > 0] = np.nanmedian(known, axis=1)
    # A spectrum without any pixel of weight has no signal to noise ratio; it is counted as one without pixels.
    return {
        "flux:median": median,
        "snr": signal_to_noise_of_arrays(clean, weights).astype(np.float64),
        "pixels:masked": 1 - num_used / flux.shape[1],
        "pixels:wrong": counts.wrong / flux.shape[1],
    }


def of_images(name: str, images: np.ndarray, bands: tuple[str, ...]) -> Columns:
    """Return columns that stand for images, of each band.

    Parameters
    ----------
    name : str
    images : ndarray, shape (n, B, H, W)
    bands : tuple of str
        B names.
    """
    found: Columns = {}
    for place, band in enumerate(bands):
        found |= _described(f"{name}[{band}]", images[:, place].reshape(len(images), -1))
    return found


def of_curves(offsets: np.ndarray, points: dict[str, np.ndarray], bands: tuple[str, ...]) -> Columns:
    """Return columns that stand for light curves.

    Parameters
    ----------
    offsets : ndarray, shape (n + 1,), int64
        First point of each curve, and the end of the last one, counted from the first point of `points`.
    points : dict of ndarray, shape (P,)
        ``time``, ``value``, ``error``, ``band``.
    bands : tuple of str
        Names of the bands.
    """
    counts = np.diff(offsets)
    curve = np.repeat(np.arange(len(counts)), counts)
    value, error, time = (points[name].astype(np.float64) for name in ("value", "error", "time"))
    good = np.isfinite(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        num_good = np.bincount(curve, good, len(counts))
        mean = np.bincount(curve, np.where(good, value, 0), len(counts)) / num_good
        offset = np.where(good, value - mean[curve], 0)
        spread = np.sqrt(np.bincount(curve, offset**2, len(counts)) / num_good)
        usable = np.isfinite(error) & (error > 0)
        mean_error = np.bincount(curve, np.where(usable, error, 0), len(counts)) / np.bincount(
            curve, usable, len(counts)
        )
        bad = np.bincount(curve, ~(good & usable), len(counts)) / counts
    back = np.zeros(len(time))
    back[1:] = (np.diff(time) < 0) & (np.diff(curve) == 0)
    found = {
        "points": counts,
        "points:bad": np.where(counts > 0, bad, np.nan),
        "time:span": _span(time, offsets),
        "time:backward": np.bincount(curve, back, len(counts)),
        "value:mean": mean,
        "value:spread": spread,
        "error:mean": mean_error,
    }
    for place, band in enumerate(bands):
        found[f"points[{band}]"] = np.bincount(curve[points["band"] == place], minlength=len(counts))
    return found


def _span(time: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    span = np.full(len(offsets) - 1, np.nan)
    some = np.diff(offsets) > 0
    if some.any():
        starts = offsets[:-1][some]
        span[some] = np.maximum.reduceat(time, starts) - np.minimum.reduceat(time, starts)
    return span
