"""Draw where reconstructions fit well and where they do not: by S/N, redshift and wavelength. N spectra, B bins."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.svg import HALF, LEFT, PHONE, RIGHT, WIDE, Axes, drawing, on_both
from hpctrain.families.result_files import Arrays
from hpctrain.kinds.spectra.lines import observed_lines

_FEWEST = 20
"""Smallest number of spectra for a trend."""
_IN_A_BIN = 10
_MOST_BINS = 12
_FEWEST_PIXELS = 20
_LABEL_GAP = 16.0
_HALF_LEFT, _HALF_RIGHT = 52, 20


def trend_figure(values: np.ndarray, chi2: np.ndarray, x_label: str, log: bool = False) -> str:
    """Draw the median of chi-square per pixel, and the band of two thirds of the spectra, in bins of equal numbers.

    Parameters
    ----------
    values, chi2 : ndarray, shape (N,)
        The quantity of the axis, and reduced chi-square; rows in which one is not finite do not count.
    x_label : str
    log : bool
        Whether the axis is logarithmic; only values above 0 count then.

    Returns
    -------
    str
        HTML; empty for fewer than 20 spectra.
    """
    good = np.isfinite(values) & np.isfinite(chi2) & (chi2 > 0) & ((values > 0) | (not log))
    values, chi2 = values[good], chi2[good]
    if len(values) < _FEWEST or values.min() == values.max():
        return ""
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, int(np.clip(len(order) // _IN_A_BIN, 2, _MOST_BINS)))
    middle = np.array([np.median(values[part]) for part in parts])
    low, median, high = np.array([np.quantile(chi2[part], (0.16, 0.5, 0.84)) for part in parts]).T
    x_limits = (float(values.min()), float(values.max()))
    y_limits = (min(0.8, float(low.min()) / 1.1), max(1.25, float(high.max()) * 1.1))

    def draw(width: int) -> str:
        frame = (_HALF_LEFT, 30, width - _HALF_LEFT - _HALF_RIGHT, 330)
        axes = Axes(*frame, x_limits, y_limits, x_kind="log" if log else "linear", y_kind="log")
        axes.add_grid(x_label, "χ² per pixel (logarithmic)", width // 80, 6)
        axes.horizontal(1.0, "reference", "1: the noise")
        axes.band(middle, low, high, "band")
        axes.line(middle, median, "c1", "median χ²")
        axes.dots(middle, median, "c1", 2.4)  # between two dots there may be no spectrum
        return drawing(width, 412, [axes], f"Chi-square per pixel against {x_label}")

    return on_both(HALF, draw)


def observed_figure(residuals: Arrays) -> str:
    """Draw the mean chi-square of pixels against the observed wavelength; empty without pixels."""
    found = _means(residuals, "observed", "chi2")
    if found is None:
        return ""
    wavelength_aa, chi2, _ = found
    top = max(1.5, float(np.nanquantile(chi2, 0.99)) * 1.15)

    def draw(width: int) -> str:
        axes = Axes(LEFT, 30, width - LEFT - RIGHT, 200, (wavelength_aa[0], wavelength_aa[-1]), (0.0, top))
        axes.add_grid("observed wavelength [Å, vacuum]", "mean χ² of a pixel", width // 90, 4)
        axes.horizontal(1.0, "reference", "1: the noise")
        axes.line(wavelength_aa, chi2, "c1", "χ²")
        return drawing(width, 282, [axes], "Mean chi-square of a pixel against the observed wavelength")

    return on_both(WIDE, draw)


def rest_figure(residuals: Arrays) -> str:
    """Draw the mean residual against the rest-frame wavelength, with the error that noise gives it; empty without."""
    found = _means(residuals, "rest", "pull")
    if found is None:
        return ""
    wavelength_aa, pull, count = found
    error = 1.0 / np.sqrt(count)
    reach = max(0.2, 1.2 * float(np.nanquantile(np.abs(pull), 0.995)))
    low_aa, high_aa = float(wavelength_aa[0]), float(wavelength_aa[-1])

    def draw(width: int) -> str:
        frame = (LEFT, 30, width - LEFT - RIGHT, 230)
        axes = Axes(*frame, (low_aa, high_aa), (-reach, reach), x_kind="log")
        axes.add_grid("rest-frame wavelength [Å, vacuum]", "mean residual / σ", width // 90, 4)
        last = -np.inf
        for name, line_aa in observed_lines(0.0, low_aa, high_aa):
            place = float(axes.x.place(line_aa))
            is_free = place - last > _LABEL_GAP * (1 if width > PHONE else 2)
            axes.vertical(line_aa, "spectral-line", name if is_free else "")
            last = place if is_free else last
        axes.band(wavelength_aa, -error, error, "band")
        axes.line(wavelength_aa, pull, "c1", "residual / σ")
        return drawing(width, 312, [axes], "Mean residual of the reconstructions against the rest-frame wavelength")

    return on_both(WIDE, draw)


def _means(residuals: Arrays, axis: str, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return wavelengths [AA], means and numbers of pixels of the bins, from the first to the last that has enough."""
    edges, count = residuals[f"{axis}_edges_aa"], residuals[f"{axis}_count"]
    enough = np.flatnonzero(count >= _FEWEST_PIXELS)
    if len(enough) < 2:
        return None
    part = slice(enough[0], enough[-1] + 1)
    number = np.where(count >= _FEWEST_PIXELS, count, np.nan)[part]
    middle = (0.5 * (edges[1:] + edges[:-1]))[part]
    return middle, residuals[f"{axis}_{what}"][part] / number, number
