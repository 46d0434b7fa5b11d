"""A chart of one spectrum: the flux, a model and its residual, and the lines at the object's redshift."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.chart.parts import MODEL, Chart, Curve, Panel
from hpctrain.kinds.spectra.lines import observed_lines


def spectrum_chart(
    title: str,
    wavelength_aa: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    redshift: float,
    reconstruction: np.ndarray | None = None,
) -> Chart:
    """Return a panel with the spectrum, and one with the residual if there is a model.

    Parameters
    ----------
    title : str
    wavelength_aa : ndarray, shape (L,)
        Observed vacuum wavelength [AA].
    flux : ndarray, shape (L,)
        Any unit.
    ivar : ndarray, shape (L,)
        Inverse variance of `flux`; pixels where it is not positive are not drawn.
    redshift : float
        NaN gives no lines.
    reconstruction : ndarray, shape (L,), optional
        The model in the unit of `flux`; NaN where it has no pixel.
    """
    good = (ivar > 0) & np.isfinite(ivar)
    x, y = wavelength_aa.astype(np.float64), np.where(good, flux.astype(np.float64), np.nan)
    marks = observed_lines(redshift, float(x[0]), float(x[-1]))
    curves = [Curve("flux", x, y)]
    panels = [Panel("flux", "" if reconstruction is not None else "observed wavelength [Å]", "", curves, marks)]
    if reconstruction is not None:
        model = reconstruction.astype(np.float64)
        curves.append(Curve("model", x, model, MODEL))
        residual = (y - model) * np.sqrt(np.where(good, ivar, 0).astype(np.float64))
        panels.append(Panel("residual", "observed wavelength [Å]", "σ", [Curve("residual", x, residual)]))
    return Chart(title, panels)
