"""Reconstructed samples with errors: how their residuals compare with the noise. R rows. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hpctrain.families.result_files import read_npz
from hpctrain.families.spectral_vae.catalogue import ENCODED
from hpctrain.validation.tasks.ordered import Median, Sorted, Unevenness
from hpctrain.validation.tasks.scales import LOG
from hpctrain.validation.tasks.sums import mean, share
from hpctrain.validation.tasks.task import LOWER, SKEWED, Metric, Statistic, Task, make_task

KIND = "spectra"
TITLE = "reconstruction"
RESIDUALS = "residuals.npz"
TAILS = (0.01, 0.001)
"""Probabilities of a chi-square as high by noise alone; the share of spectra beyond is the same for a right model."""

_ANDRAE = "Andrae, Schulze-Hartung & Melchior 2010, arXiv:1012.3754"
_PEARSON = "Pearson 1900, Philosophical Magazine 50, 157"


def spectra_task(columns: Mapping[str, np.ndarray], results: Path | None) -> Task:
    """Return the task of a reconstruction: are its residuals as large as the noise?

    The truth is the observed flux itself, which the model has not seen for these objects.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (R, ...)
        Of ``results/latents.h5``: ``RECON_MSE``, the reduced chi-square; ``NUM_PIXELS``; ``STATUS``.
    results : Path or None
        Folder of the results, with ``residuals.npz`` beside.
    """
    pixels = columns["NUM_PIXELS"].astype(np.float64)
    reduced = np.where(columns["STATUS"] == ENCODED, columns["RECON_MSE"].astype(np.float64), np.nan)
    known = np.isfinite(reduced) & (pixels > 0)
    reduced = np.where(known, reduced, np.nan)
    chance = np.full(len(reduced), np.nan)
    chance[known] = stats.chi2.sf(reduced[known] * pixels[known], pixels[known])
    parts: list[tuple[Metric, Statistic]] = [
        (
            Metric(
                "reduced_chi2",
                "median reduced χ²",
                "",
                LOWER,
                "Median over spectra of the mean squared residual in units of the variance; 1 if only noise is left, "
                "below 1 if the errors are too large.",
                (_ANDRAE,),
            ),
            Median(Sorted(reduced)),
        ),
        (
            Metric(
                "mean_reduced_chi2", "mean reduced χ²", "", LOWER, "Mean over spectra of the reduced χ².", (_ANDRAE,)
            ),
            mean(reduced, SKEWED, LOG),
        ),
    ]
    for tail in TAILS:
        text = f"Share of spectra whose χ² noise alone exceeds with a probability below {tail:g}; {tail:g} is ideal."
        metric = Metric(f"tail_{tail:g}", f"χ² tail below {tail:g}", "", LOWER, text, (_PEARSON,))
        parts.append((metric, share(chance < tail, known)))
    text = "Kolmogorov-Smirnov distance of the χ² probabilities from a uniform distribution, which noise alone has."
    parts.append((Metric("chi2_ks", "unevenness of χ²", "", LOWER, text, (_PEARSON,)), Unevenness(Sorted(chance))))
    arrays = {"reduced_chi2": reduced, "num_pixels": pixels, "probability": chance}
    details = dict if results is None else partial(by_wavelength, results / RESIDUALS)
    return make_task(TITLE, KIND, known, parts, arrays, details)


def by_wavelength(path: Path) -> dict[str, Any]:
    """Return the residuals of the held-out spectra in bins of wavelength, in units of their errors.

    Parameters
    ----------
    path : Path
        ``residuals.npz``.

    Returns
    -------
    dict
        ``by_wavelength`` with ``observed`` and ``rest``: edges of the bins [AA], number of pixels, mean of the
        residuals divided by their errors, whose own error is ``mean_error`` for independent pixels, and root mean
        square; NaN where there are no pixels. Empty without the file.
    """
    try:
        sums = read_npz(path)
    except (OSError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for frame in ("observed", "rest"):
        count = sums[f"{frame}_count"]
        with np.errstate(divide="ignore", invalid="ignore"):
            shift, square = sums[f"{frame}_pull"] / count, sums[f"{frame}_chi2"] / count
            error = np.sqrt(np.maximum(square - shift**2, 0.0) / count)
        found[frame] = {
            "edges_aa": sums[f"{frame}_edges_aa"].tolist(),
            "num_pixels": count.astype(int).tolist(),
            "mean_pull": shift.tolist(),
            "mean_error": error.tolist(),
            "rms_pull": np.sqrt(square).tolist(),
        }
    return {"by_wavelength": {**found, "num_spectra": int(sums["num_spectra"])}}
