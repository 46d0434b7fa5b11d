"""Spectra with their reconstructions, and the residual in units of sigma below."""

from __future__ import annotations

import numpy as np

from hpctrain.metrics.figures import flux_limits, reduced_chi2, row_of, smooth
from hpctrain.metrics.spectral_lines import observed_lines
from hpctrain.report.curves import WIDE
from hpctrain.report.decimate import column_means
from hpctrain.report.gather import Arrays
from hpctrain.report.scale import grouped
from hpctrain.report.svg import Axes, drawing, legend

MOST_SPECTRA = 8
"""More would make the page heavy; all are in ``results/*.npz``."""

_LEFT, _RIGHT = 62, 26
_LABEL_GAP = 13.0
LEGEND = legend(
    [
        ("line raw", "spectrum"),
        ("line ink", "smoothed"),
        ("box band", "±σ of a pixel"),
        ("line c2", "reconstruction"),
        ("line c1", "residual / σ"),
    ]
)


def spectrum_figures(arrays: Arrays) -> list[tuple[str, str, str]]:
    """Return (identifier, facts, SVG) of the first few spectra of ``results/*.npz``."""
    figures = []
    for row in range(min(len(arrays["flux"]), MOST_SPECTRA)):
        spectrum = row_of(arrays, row)
        facts = [f"z = {float(spectrum['redshift']):.4f}"]
        chi2 = reduced_chi2(spectrum)
        facts.append(f"χ² per pixel {chi2:.3f}" if np.isfinite(chi2) else "no valid pixel")
        if "anomaly_score" in spectrum:
            facts.insert(0, f"score {grouped(float(spectrum['anomaly_score']), 3)}")
        name = str(spectrum["target_id"])
        figures.append((name, " · ".join(facts), _figure(spectrum, name)))
    return figures


def _figure(spectrum: Arrays, name: str) -> str:
    wavelength_aa = spectrum["wavelength_aa"].astype(np.float64)
    valid, covered = spectrum["ivar"] > 0, spectrum["covered"].astype(bool)
    sigma = np.where(valid, 1.0 / np.sqrt(np.where(valid, spectrum["ivar"], 1.0)), np.nan)
    flux = np.where(valid, spectrum["flux"], np.nan)
    reconstruction = np.where(covered, spectrum["reconstruction"], np.nan)
    smoothed = smooth(spectrum["flux"], spectrum["ivar"], max(1, len(flux) // 700))
    limits = (float(np.nanmin(wavelength_aa)), float(np.nanmax(wavelength_aa)))
    width = WIDE - _LEFT - _RIGHT

    top = Axes(_LEFT, 26, width, 190, limits, _flux_limits(flux, reconstruction))
    top.add_grid("", "flux (normalised)", 10, 5)
    _label_lines(top, float(spectrum["redshift"]), limits)
    x, (middle, spread) = column_means(wavelength_aa, [smoothed, sigma], width // 2)
    top.band(x, middle - spread, middle + spread, "band")
    top.line(wavelength_aa, flux, "raw")
    top.line(wavelength_aa, smoothed, "ink", "flux")
    top.line(wavelength_aa, reconstruction, "c2", "reconstruction")

    residual = (flux - reconstruction) / sigma
    reach = _residual_reach(residual)
    bottom = Axes(_LEFT, 250, width, 66, limits, (-reach, reach))
    bottom.add_grid("observed wavelength [Å, vacuum]", "residual / σ", 10, 3)
    bottom.bar(*limits, -1, 1, "band")
    bottom.line(wavelength_aa, residual, "c1 thin", "residual / σ")
    return drawing(WIDE, 362, [top, bottom], f"Spectrum of object {name}, its reconstruction and the residual")


def _flux_limits(flux: np.ndarray, reconstruction: np.ndarray) -> tuple[float, float]:
    low, high = flux_limits(flux, reconstruction)
    return low, high + 0.12 * (high - low)  # room for the names of lines


def _residual_reach(residual: np.ndarray) -> float:
    """Return the end of the residual's axis: the same for all good fits, wider where the fit is bad."""
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
