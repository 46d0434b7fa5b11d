"""Figures of reconstructed spectra: residuals by wavelength, and the probabilities of their χ². R rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.drawing.described.figure import figure
from hpctrain.validation.tasks.task import Task

FEWEST = 20
"""Smallest number of spectra of which a figure says something."""
_BINS = 20
_SIGMAS = 1.96
_FRAMES = {"rest": "rest-frame", "observed": "observed"}


def spectra_figures(task: Task, own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of a reconstruction.

    Parameters
    ----------
    task : Task
        Of the kind ``spectra``.
    own : mapping
        Its entry in ``validation.json``, with ``by_wavelength`` if the run has written it.
    """
    chance = task.arrays["probability"][task.known]
    if len(chance) < FEWEST:
        return []
    sums = own.get("by_wavelength", {})
    return [*(_by_wavelength(sums[name], name) for name in _FRAMES if name in sums), _chances(chance)]


def _by_wavelength(sums: Mapping[str, Any], frame: str) -> dict[str, Any]:
    """Return the mean residual in bins of wavelength, with its 95 % interval for independent pixels."""
    edges = np.asarray(sums["edges_aa"])
    shift, error = (np.array(sums[name], dtype=np.float64) for name in ("mean_pull", "mean_error"))
    middle, half = 0.5 * (edges[1:] + edges[:-1]), _SIGMAS * error
    lines = [
        {"x": middle, "y": shift, "low": shift - half, "high": shift + half},
        {"x": edges[[0, -1]], "y": [0.0, 0.0], "style": "reference"},
    ]
    caption = (
        "Mean of observed minus reconstructed flux in units of its error, over held-out spectra; 0 if the model has no "
        "systematic error there. Band: 95 % interval, if pixels are independent."
    )
    axes = {"x": {"label": f"{_FRAMES[frame]} wavelength [Å]"}, "y": {"label": "mean residual / error"}}
    return figure(
        f"reconstruction.{frame}", f"Residuals, {_FRAMES[frame]}", "curve", {"lines": lines}, caption, axes=axes
    )


def _chances(chance: np.ndarray) -> dict[str, Any]:
    """Return the histogram of the probabilities (n,) that noise alone gives a larger χ²."""
    counts, edges = np.histogram(chance, np.linspace(0, 1, _BINS + 1))
    expected = np.full(_BINS, len(chance) / _BINS)
    data = {"edges": edges, "series": [{"values": counts}], "expected": expected}
    caption = (
        "Probability that noise alone gives a larger χ² than that of the spectrum: flat if only noise is left. Many "
        "near 0 are spectra that the model does not reach, many near 1 mean that the errors are too large."
    )
    axes = {"x": {"label": "probability of a larger χ²", "low": 0.0, "high": 1.0}, "y": {"label": "spectra"}}
    return figure("reconstruction.chi2", "χ² of spectra", "histogram", data, caption, axes=axes)
