"""A second look at spectra that show the Lyman-alpha forest: its absorption counts as scatter. N spectra, L pixels.

Templates have the mean absorption of the forest; each line of sight has its own. In a bright spectrum the difference is
far larger than the noise, and the redshift moves to where the templates imitate it best, by up to .01. So near
the redshift that was found chi-square is computed again, with the scatter of the forest in the noise of
the pixels blueward of Lyman-alpha. Whether the redshift is certain remains what the first look says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.redshift.log_grid import to_log_grid
from hpctrain.redshift.minima import Curve, Minima, parabola
from hpctrain.redshift.search import TemplateSearch

LYMAN_ALPHA_AA = 1215.67
SCATTER = 0.35
"""Standard deviation of the forest's transmission in a pixel, roughly, in units of the continuum; from 0.2 to 1 the
redshifts of real spectra are about as good."""

CONTINUUM_AA = 1260.0, 1380.0
"""Rest wavelengths where the continuum is measured: redward of the line, between it and Si IV."""

WINDOW = 0.02
"""Largest change of ln(1 + z) by the second look."""


def look_again(
    batch: SpectraBatch, minima: Minima, curves: Sequence[Curve], searches: Sequence[TemplateSearch], step: float
) -> Minima:
    """Return the minima with better redshifts and errors for the spectra that show the forest.

    Parameters
    ----------
    batch : SpectraBatch
        Spectra with the error of the templates in their noise.
    minima : Minima
        Those of `curves`.
    curves : sequence of Curve
        One for each class. Near the redshift of a spectrum that shows the forest, the new chi-square replaces the old
        one, with the same smallest value.
    searches : sequence of TemplateSearch
        One for each class, for the log grid of the spectra.
    step : float
        Step of the shifts in ln(1 + z).
    """
    rest = batch.wavelength_aa.double() / torch.exp(minima.log_redshift)[:, None]
    in_forest = (rest < LYMAN_ALPHA_AA) & (batch.ivar > 0)
    shown = in_forest.any(dim=1)
    if not shown.any():
        return minima
    spectra = to_log_grid(batch.flux, with_scatter(batch, rest, in_forest), batch.wavelength_aa, step)
    log_redshift, error = minima.log_redshift.clone(), minima.error.clone()
    for number, (curve, search) in enumerate(zip(curves, searches, strict=True)):
        rows = torch.nonzero(shown & (minima.number == number))[:, 0]
        if not len(rows):
            continue
        found = log_redshift[rows] / step - curve.first_shift
        reach = max(1, round(WINDOW / step))
        near = found.round().long()[:, None] + torch.arange(-reach, reach + 1, device=found.device)
        near = near.clamp(0, curve.chi2.shape[1] - 1)
        chi2 = search.chi2(spectra.take(rows), near)
        best = chi2.argmin(dim=1)
        end = torch.zeros(chi2.shape[1], dtype=torch.bool, device=best.device)
        end[0] = end[-1] = True
        offset, new_error, lowest = parabola(chi2, best, end)
        good = torch.isfinite(new_error)
        place = near.gather(1, best[:, None])[:, 0] + curve.first_shift + offset
        log_redshift[rows] = torch.where(good, step * place, log_redshift[rows])
        error[rows] = torch.where(good, step * new_error, error[rows])
        kept, columns = rows[good], near[good]
        curve.chi2[kept[:, None], columns] = chi2[good] + (minima.chi2[kept] - lowest[good])[:, None]
    return replace(minima, log_redshift=log_redshift, error=error)


def with_scatter(batch: SpectraBatch, rest_aa: Tensor, in_forest: Tensor) -> Tensor:
    """Return the inverse variance (N, L) with the scatter of the forest in the pixels `in_forest` (N, L) bool.

    `rest_aa` (N, L) are the rest wavelengths. The continuum is the median flux in `CONTINUUM_AA`, or of the whole
    spectrum if that is not seen.
    """
    valid = batch.ivar > 0
    flux = torch.where(valid, batch.flux.double(), torch.nan)
    is_continuum = (rest_aa > CONTINUUM_AA[0]) & (rest_aa < CONTINUUM_AA[1])
    level = torch.where(is_continuum, flux, torch.nan).nanmedian(dim=1, keepdim=True).values
    level = torch.where(torch.isfinite(level), level, flux.nanmedian(dim=1, keepdim=True).values).nan_to_num()
    ivar = batch.ivar.double()
    return torch.where(in_forest, ivar / (1 + ivar * (SCATTER * level).square()), ivar)
