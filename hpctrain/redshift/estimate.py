"""Redshifts of any spectra: puts search, minima, density, fit and warnings together. N spectra, L pixels, C classes."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.redshift.density import Density
from hpctrain.redshift.fit import Fit, fit_at
from hpctrain.redshift.forest import look_again
from hpctrain.redshift.log_grid import to_log_grid
from hpctrain.redshift.minima import Curve, Minima, find_minima
from hpctrain.redshift.search import NUM_POLYNOMIALS, TemplateSearch
from hpctrain.redshift.templates import Templates
from hpctrain.redshift.zwarn import (
    MAX_OUTLIERS,
    MIN_COVERAGE,
    MIN_DELTA_CHI2,
    MIN_PIXELS_PER_COEFFICIENT,
    ZWarn,
)

MODEL_ERROR = 0.1
"""Error of the templates in units of the median flux of a spectrum."""

_GRIDS_KEPT = 4


def with_model_error(batch: SpectraBatch) -> SpectraBatch:
    """Return spectra with the error of the templates added to the noise of each pixel in quadrature.

    Without it, chi-square of a bright spectrum measures how well the templates describe its continuum to a per cent,
    and its lines count for little.

    Parameters
    ----------
    batch : SpectraBatch
        Cleaned spectra.
    """
    valid = batch.ivar > 0
    flux = torch.where(valid, batch.flux, torch.nan)
    level = torch.nanmedian(flux, dim=1, keepdim=True).values.nan_to_num().double()
    ivar = batch.ivar.double()
    return batch.replace(ivar=ivar / (1 + ivar * (MODEL_ERROR * level).square()))


class RedshiftEstimator:
    """Finds the redshift and the class of spectra with templates.

    Parameters
    ----------
    templates : Templates
    device : torch.device or str
        Device that computes.
    """

    def __init__(self, templates: Templates, device: torch.device | str = "cpu") -> None:
        self.templates, self.device = templates, torch.device(device)
        ranges = [template.shifts(templates.step) for template in templates.classes]
        self._density = Density(min(low for low, _ in ranges), max(high for _, high in ranges), templates.step)
        self._num_coefficients = max(len(template.basis) for template in templates.classes) + NUM_POLYNOMIALS
        self._searches: OrderedDict[tuple[int, int], list[TemplateSearch]] = OrderedDict()

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins of ``PZ`` as redshifts, shape (Z + 1,)."""
        return self._density.edges.numpy()

    @torch.no_grad()
    def __call__(self, raw: SpectraBatch) -> dict[str, np.ndarray]:
        """Return the columns of a catalogue for spectra as they were read; their own redshifts are not used.

        Parameters
        ----------
        raw : SpectraBatch
            N spectra.

        Returns
        -------
        dict of ndarray, shape (N, ...)
            All of :data:`hpctrain.redshift.catalogue.COLUMNS` but ``target_id``.
        """
        batch = with_model_error(raw.to(self.device).clean())
        spectra = to_log_grid(batch.flux, batch.ivar, batch.wavelength_aa, self.templates.step)
        searches = self._searches_for(spectra.first, spectra.num_pixels)
        curves = [Curve(search.chi2(spectra), search.first_shift) for search in searches]
        minima = find_minima(curves, self.templates.step)
        minima = look_again(batch, minima, curves, searches, self.templates.step)
        fit = self._fit(batch, minima)
        values = self._columns(minima, fit, spectra.num_valid)
        values["ZWARN"] = self._warnings(minima, fit, spectra.num_valid, batch.num_pixels)
        values["PZ"] = self._density(curves, spectra.num_valid)
        empty = spectra.num_valid == 0
        for name in ("Z", "ZERR", "CHI2", "DELTACHI2", "Z_SECOND", "DELTACHI2_CLASS", "COEFF", "PZ"):
            values[name][empty] = torch.nan
        columns = {name: value.cpu().numpy() for name, value in values.items()}
        names = np.array([*self.templates.names, ""], dtype="S8")
        columns["SPECTYPE"] = names[np.where(empty.cpu().numpy(), -1, minima.number.cpu().numpy())]
        columns["SPECTYPE_SECOND"] = names[np.where(empty.cpu().numpy(), -1, minima.second_number.cpu().numpy())]
        return columns

    def _searches_for(self, first: int, num_pixels: int) -> list[TemplateSearch]:
        """Return a search per class for a grid; the transforms of the last few grids are kept."""
        key = (first, num_pixels)
        if key not in self._searches:
            self._searches[key] = [
                TemplateSearch(template, self.templates.step, first, num_pixels, self.device)
                for template in self.templates.classes
            ]
            if len(self._searches) > _GRIDS_KEPT:
                self._searches.popitem(last=False)
        self._searches.move_to_end(key)
        return self._searches[key]

    def _fit(self, batch: SpectraBatch, minima: Minima) -> Fit:
        """Fit each spectrum with the templates of its class; fewer components leave coefficients of 0."""
        coefficients = torch.zeros(len(batch), self._num_coefficients, dtype=torch.float64, device=self.device)
        chi2, outliers = (torch.zeros_like(minima.chi2) for _ in range(2))
        is_negative = torch.zeros_like(minima.at_limit)
        for number, template in enumerate(self.templates.classes):
            rows = torch.nonzero(minima.number == number)[:, 0]
            if not len(rows):
                continue
            wavelength = batch.wavelength_aa if batch.wavelength_aa.ndim == 1 else batch.wavelength_aa[rows]
            some = batch.replace(flux=batch.flux[rows], ivar=batch.ivar[rows], wavelength_aa=wavelength)
            fit = fit_at(some, minima.log_redshift[rows], template, self.templates.step)
            coefficients[rows, : fit.coefficients.shape[1]] = fit.coefficients
            chi2[rows], outliers[rows], is_negative[rows] = fit.chi2, fit.outliers, fit.is_negative
        return Fit(coefficients, chi2, outliers, is_negative)

    def _columns(self, minima: Minima, fit: Fit, num_valid: Tensor) -> dict[str, Tensor]:
        others = minima.of_class.scatter(1, minima.number[:, None], torch.inf).amin(dim=1)
        return {
            "Z": torch.expm1(minima.log_redshift),
            "ZERR": torch.exp(minima.log_redshift) * minima.error,
            "CHI2": fit.chi2,
            "NPIXELS": num_valid,
            "DELTACHI2": minima.second_chi2 - minima.chi2,
            "Z_SECOND": torch.expm1(minima.second_log_redshift),
            "DELTACHI2_CLASS": others - minima.chi2,
            "COEFF": fit.coefficients,
        }

    def _warnings(self, minima: Minima, fit: Fit, num_valid: Tensor, num_pixels: int) -> Tensor:
        least = max(MIN_COVERAGE * num_pixels, MIN_PIXELS_PER_COEFFICIENT * self._num_coefficients)
        empty = num_valid == 0
        found = {
            ZWarn.LITTLE_COVERAGE: num_valid < least,
            ZWarn.SMALL_DELTA_CHI2: ~empty & (minima.second_chi2 - minima.chi2 < MIN_DELTA_CHI2),
            ZWarn.NEGATIVE_MODEL: ~empty & fit.is_negative,
            ZWarn.MANY_OUTLIERS: fit.outliers > MAX_OUTLIERS,
            ZWarn.Z_FITLIMIT: ~empty & minima.at_limit,
            ZWarn.NODATA: empty,
            ZWarn.BAD_MINFIT: ~empty & ~torch.isfinite(minima.error),
        }
        total = torch.zeros_like(num_valid)
        for bit, rows in found.items():
            total += int(bit) * rows.long()
        return total
