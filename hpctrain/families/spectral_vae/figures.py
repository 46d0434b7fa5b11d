"""Figures of reconstructions for the exporters; the report draws its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.spectra.chi2 import reduced_chi2_of_arrays
from hpctrain.kinds.spectra.lines import observed_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, INK, VERMILION = "#0072B2", "#b4b4b4", "#4a4a4a", "#D55E00"
"""Okabe and Ito's colours, which people with any kind of colour vision can distinguish."""
_QUIET = 3.0
"""Largest noise, in units of the median, of a pixel that may extend the flux axis."""


def row_of(arrays: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """Return one spectrum of ``results/*.npz``: the `row` of each array, and the whole of a shared wavelength grid."""
    return {
        name: values if values.ndim == 0 or (name == "wavelength_aa" and values.ndim == 1) else values[row]
        for name, values in ((name, np.asarray(value)) for name, value in arrays.items())
    }


def reduced_chi2(spectrum: Mapping[str, np.ndarray]) -> float:
    """Return χ² per pixel of a reconstruction over the pixels that are measured and covered; NaN if there are none.

    Parameters
    ----------
    spectrum : mapping
        ``flux``, ``ivar``, ``reconstruction``, shape (L,), and ``covered``, shape (L,), bool.
    """
    names = ("flux", "reconstruction", "ivar", "covered")
    return float(reduced_chi2_of_arrays(*(spectrum[name] for name in names)))


def smooth(flux: np.ndarray, ivar: np.ndarray, num_pixels: int) -> np.ndarray:
    """Return the running mean of a spectrum, weighted by inverse variance; NaN where nothing is measured.

    Parameters
    ----------
    flux, ivar : ndarray, shape (L,)
        Flux and its inverse variance; 0 masks a pixel.
    num_pixels : int
        Width of the window [pixel].
    """
    kernel = np.ones(min(num_pixels, len(flux)))
    weight = np.convolve(ivar, kernel, mode="same")
    total = np.convolve(np.where(ivar > 0, ivar * flux, 0.0), kernel, mode="same")
    return np.divide(total, weight, out=np.full(len(flux), np.nan), where=(weight > 0) & (ivar > 0))


def near_data(wavelength_aa: np.ndarray, valid: np.ndarray, reach_aa: float) -> np.ndarray:
    """Return which pixels are measured or in a narrow gap between two measured ones.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,)
        Ascending [AA].
    valid : ndarray, shape (L,), bool
        Whether a pixel is measured.
    reach_aa : float
        Widest gap that counts as narrow [AA].

    Returns
    -------
    ndarray, shape (L,), bool
        False in wider gaps, and beyond the first and the last measured pixel.
    """
    places = np.flatnonzero(valid)
    if not len(places):
        return np.zeros(len(valid), dtype=bool)
    before = np.searchsorted(places, np.arange(len(valid)), side="right") - 1
    after = np.searchsorted(places, np.arange(len(valid)), side="left")
    inside = (before >= 0) & (after < len(places))
    left = wavelength_aa[places[np.clip(before, 0, None)]]
    right = wavelength_aa[places[np.clip(after, None, len(places) - 1)]]
    return inside & (right - left <= reach_aa)


def draw_reconstructions(arrays: Mapping[str, np.ndarray], num_figures: int) -> Iterator[tuple[str, Figure]]:
    """Draw the first few spectra of an evaluation with their reconstructions.

    Parameters
    ----------
    arrays : mapping
        Arrays of ``results/reconstructions.npz``: ``wavelength_aa`` (L,) or (n, L), ``flux``, ``ivar``,
        ``reconstruction``, ``covered`` (n, L), ``target_id``, ``redshift`` (n,).
    num_figures : int
        Largest number of figures.

    Yields
    ------
    str, Figure
        Name of the figure, ``reconstruction/0`` and so on, and the figure.
    """
    for row in range(min(num_figures, len(arrays["flux"]))):
        yield f"reconstruction/{row}", draw_reconstruction(row_of(arrays, row))


def draw_reconstruction(spectrum: Mapping[str, np.ndarray]) -> Figure:
    """Draw one spectrum with its reconstruction, and the residual in units of sigma below.

    The axes cover the range of the data. In a gap of the data the reconstruction is pale.

    Parameters
    ----------
    spectrum : mapping
        ``wavelength_aa``, ``flux``, ``ivar``, ``reconstruction``, shape (L,), flux in units of its normalisation;
        ``covered``, shape (L,), bool; ``target_id`` and ``redshift``.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot, so that matplotlib keeps no global reference to it.
    """
    from matplotlib.figure import Figure

    wavelength_aa, valid = spectrum["wavelength_aa"], spectrum["ivar"] > 0
    shown_aa = wavelength_aa[valid] if valid.any() else wavelength_aa
    low_aa, high_aa = float(np.min(shown_aa)), float(np.max(shown_aa))
    measured = near_data(wavelength_aa, valid, 0.01 * (high_aa - low_aa))
    sigma = np.where(valid, 1.0 / np.sqrt(np.where(valid, spectrum["ivar"], 1.0)), np.nan)
    flux = np.where(valid, spectrum["flux"], np.nan)
    reconstruction = np.where(spectrum["covered"].astype(bool), spectrum["reconstruction"], np.nan)
    smoothed = smooth(spectrum["flux"], spectrum["ivar"], max(1, len(flux) // 700))
    redshift = float(spectrum["redshift"])

    figure = Figure(figsize=(10, 5), dpi=90)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.1, top=0.92, hspace=0.06)
    top.fill_between(wavelength_aa, smoothed - sigma, smoothed + sigma, color=GREY, alpha=0.5, linewidth=0, label="±σ")
    top.plot(wavelength_aa, flux, color=GREY, linewidth=0.4, label="spectrum")
    top.plot(wavelength_aa, smoothed, color=INK, linewidth=0.6, label="smoothed")
    judged = np.where(measured, reconstruction, np.nan)
    top.plot(wavelength_aa, np.where(measured, np.nan, reconstruction), color=VERMILION, linewidth=0.9, alpha=0.3)
    top.plot(wavelength_aa, judged, color=VERMILION, linewidth=1.3, label="reconstruction")
    top.set_ylim(*flux_limits(flux, sigma, judged))
    top.set_ylabel("flux (normalised)")
    top.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=4, fontsize=8, borderaxespad=0)
    title = f"object {spectrum['target_id']}   z = {redshift:.4f}   χ² per pixel = {reduced_chi2(spectrum):.3g}"
    top.set_title(title, loc="left", fontsize=10)
    bottom.axhspan(-1, 1, color=GREY, alpha=0.4, linewidth=0)
    bottom.plot(wavelength_aa, np.clip((flux - reconstruction) / sigma, -6, 6), color=BLUE, linewidth=0.4)
    bottom.set_ylim(-6, 6)
    bottom.set_ylabel("residual / σ")
    bottom.set_xlabel("observed wavelength [Å, vacuum]")
    top.set_xlim(low_aa, high_aa)
    _label_lines(top, redshift, low_aa, high_aa)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    return figure


def flux_limits(flux: np.ndarray, sigma: np.ndarray, reconstruction: np.ndarray) -> tuple[float, float]:
    """Return limits of the flux axis that show the whole reconstruction and the flux without its noisiest pixels.

    Parameters
    ----------
    flux, sigma, reconstruction : ndarray, shape (L,)
        NaN in pixels without a measurement or a reconstruction.
    """
    finite = np.isfinite(flux)
    quiet = finite & (sigma <= _QUIET * np.nanmedian(sigma)) if finite.any() else finite
    pieces = [np.percentile(flux[quiet], (0.5, 99.5)) if quiet.any() else np.array([0.0, 1.0])]
    if np.isfinite(reconstruction).any():
        pieces.append(np.array([np.nanmin(reconstruction), np.nanmax(reconstruction)]))
    low, high = float(min(piece[0] for piece in pieces)), float(max(piece[1] for piece in pieces))
    margin = 0.12 * (high - low) or 1.0
    return low - margin, high + margin


def _label_lines(axes, redshift: float, low_aa: float, high_aa: float) -> None:
    previous = -np.inf
    for name, wavelength_aa in observed_lines(redshift, low_aa, high_aa):
        axes.axvline(wavelength_aa, color=INK, alpha=0.5, linewidth=0.6, linestyle=(0, (2, 3)))
        if wavelength_aa - previous > 0.025 * (high_aa - low_aa):  # closer names would overlap
            axes.text(
                wavelength_aa, 0.98, f" {name}", transform=axes.get_xaxis_transform(), rotation=90,
                va="top", ha="left", fontsize=7, color=INK,
            )  # fmt: skip
            previous = wavelength_aa
