"""Draw spectra with their reconstructions, and below them the residual in units of sigma."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import numpy as np

from hpctrain.drawing.decimate import column_means
from hpctrain.drawing.scale import grouped
from hpctrain.drawing.svg import LEFT, PHONE, RIGHT, WIDE, Axes, drawing, legend, num_ticks, on_both, standalone
from hpctrain.families.result_files import Arrays
from hpctrain.families.spectral_vae.anomaly_list import link_html, reason_of
from hpctrain.families.spectral_vae.figures import flux_limits, near_data, reduced_chi2, row_of, smooth
from hpctrain.kinds.spectra.lines import observed_lines
from hpctrain.kinds.spectra.objects import Link, describe_object

OPEN_SPECTRA = 3
"""Number of spectra of a section that are unfolded."""
MOST_SPECTRA = 8
"""Largest number of spectra to draw, which limits the size of the page; ``results/*.npz`` has all."""

_LABEL_GAP = 13.0
_GAP = 0.01
"""Widest gap in the data, as a share of the figure, across which the reconstruction is drawn."""
_ENTRIES = [
    ("line raw", "spectrum"),
    ("line ink", "smoothed"),
    ("box band", "±σ of a pixel"),
    ("line c2", "reconstruction"),
    ("line c2 faint", "reconstruction of pixels without data"),
    ("line c1", "residual / σ"),
]
LEGEND = legend(_ENTRIES)


class SpectrumFigure(NamedTuple):
    """One spectrum on the page: name and facts of the object, links to web pages, and the drawing as HTML."""

    name: str
    facts: str
    links: list[Link]
    html: str


def spectrum_figures(arrays: Arrays) -> list[SpectrumFigure]:
    """Return the figures of the first few spectra of ``results/*.npz``."""
    figures = []
    for row in range(min(len(arrays["flux"]), MOST_SPECTRA)):
        spectrum = row_of(arrays, row)
        known = describe_object(spectrum)
        facts = [*_facts(spectrum), *known.facts]
        if "anomaly_score" in spectrum:
            facts.insert(0, f"score {grouped(float(spectrum['anomaly_score']), 2)}")
        if "anomaly_reason" in spectrum:
            facts.insert(1, reason_of(spectrum))
        figures.append(SpectrumFigure(known.name, " · ".join(facts), known.links, _figure(spectrum, known.name)))
    return figures


def spectra_html(arrays: Arrays) -> str:
    """Return the figures of spectra: the first few open, the others folded."""
    figures = [
        f'<figure class="spectrum"><figcaption><b>{escape(figure.name)}</b> {escape(figure.facts)}'
        f"{link_html(figure.links)}</figcaption>{figure.html}</figure>"
        for figure in spectrum_figures(arrays)
    ]
    folded = figures[OPEN_SPECTRA:]
    more = "1 more spectrum" if len(folded) == 1 else f"{len(folded)} more spectra"
    rest = f'<details class="figures"><summary>{more}</summary>{"".join(folded)}</details>' if folded else ""
    return f"{''.join(figures[:OPEN_SPECTRA])}{rest}"


def spectrum_document(arrays: Arrays) -> str:
    """Return the spectrum with the median χ² as a self-contained SVG file."""
    every = [row_of(arrays, row) for row in range(len(arrays["flux"]))]
    ranked = sorted(every, key=lambda spectrum: np.nan_to_num(reduced_chi2(spectrum), nan=np.inf))
    spectrum = ranked[(len(ranked) - 1) // 2]
    title = f"Held out: {', '.join([describe_object(spectrum).name, *_facts(spectrum)])}"
    height, axes = _axes(spectrum, WIDE)
    entries = [entry for entry in _ENTRIES if entry[0] != "line c2 faint"]
    return standalone(WIDE, height, axes, title, entries)


def _facts(spectrum: Arrays) -> list[str]:
    chi2 = reduced_chi2(spectrum)
    fit = f"χ² per pixel {chi2:.3g}" if np.isfinite(chi2) else "no valid pixel"
    return [f"z = {float(spectrum['redshift']):.4f}", fit]


def _figure(spectrum: Arrays, name: str) -> str:
    def draw(width: int) -> str:
        height, axes = _axes(spectrum, width)
        return drawing(width, height, axes, f"Spectrum of {name}, its reconstruction and the residual")

    return on_both(WIDE, draw)


def _axes(spectrum: Arrays, width: int) -> tuple[int, list[Axes]]:
    """Return the height of the drawing, and its axes: flux and reconstruction above, the residual below."""
    wavelength_aa = spectrum["wavelength_aa"].astype(np.float64)
    valid, covered = spectrum["ivar"] > 0, spectrum["covered"].astype(bool)
    sigma = np.where(valid, 1.0 / np.sqrt(np.where(valid, spectrum["ivar"], 1.0)), np.nan)
    flux = np.where(valid, spectrum["flux"], np.nan)
    reconstruction = np.where(covered, spectrum["reconstruction"], np.nan)
    smoothed = smooth(spectrum["flux"], spectrum["ivar"], max(1, len(flux) // 700))
    limits = _wavelength_limits(wavelength_aa, valid)
    measured = near_data(wavelength_aa, valid, _GAP * (limits[1] - limits[0]))
    inner = width - LEFT - RIGHT

    height = 190 if width > PHONE else 150
    top = Axes(LEFT, 26, inner, height, limits, _flux_limits(flux, sigma, np.where(measured, reconstruction, np.nan)))
    top.add_grid("", "flux (normalised)", num_ticks(width), 5)
    _label_lines(top, float(spectrum["redshift"]), limits)
    x, (middle, spread) = column_means(wavelength_aa, [smoothed, sigma], inner // 2)
    top.band(x, middle - spread, middle + spread, "band")
    top.line(wavelength_aa, flux, "raw")
    top.line(wavelength_aa, smoothed, "ink", "flux")
    top.line(wavelength_aa, np.where(measured, np.nan, reconstruction), "c2 faint")
    top.line(wavelength_aa, np.where(measured, reconstruction, np.nan), "c2", "reconstruction")

    residual = (flux - reconstruction) / sigma
    reach = _residual_reach(residual)
    bottom = Axes(LEFT, height + 60, inner, 66, limits, (-reach, reach))
    bottom.add_grid("observed wavelength [Å, vacuum]", "residual / σ", num_ticks(width), 3)
    bottom.bar(*limits, -1, 1, "band")
    bottom.line(wavelength_aa, residual, "c1 thin", "residual / σ")
    return height + 172, [top, bottom]


def _wavelength_limits(wavelength_aa: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Return the measured range with a small margin; the whole range if no pixel is measured."""
    shown = wavelength_aa[valid] if valid.any() else wavelength_aa
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    air = 0.005 * (high - low) or 1.0
    return low - air, high + air


def _flux_limits(flux: np.ndarray, sigma: np.ndarray, reconstruction: np.ndarray) -> tuple[float, float]:
    low, high = flux_limits(flux, sigma, reconstruction)
    return low, high + 0.12 * (high - low)  # room for the names of lines


def _residual_reach(residual: np.ndarray) -> float:
    """Return the end of the residual's axis: the same for all good fits, larger for a bad fit."""
    finite = np.abs(residual[np.isfinite(residual)])
    most = float(np.quantile(finite, 0.99)) if len(finite) else 0.0
    return next((reach for reach in (5.5, 11.0, 22.0, 55.0) if reach >= most), 110.0)


def _label_lines(axes: Axes, redshift: float, limits: tuple[float, float]) -> None:
    previous = -np.inf
    for name, wavelength_aa in observed_lines(redshift, *limits):
        place = float(axes.x.place(wavelength_aa))
        free = place - previous > _LABEL_GAP and place - axes.left > 10
        axes.vertical(wavelength_aa, "spectral-line", name if free else "")
        previous = place if free else previous
