"""The best redshift and its rivals, from the chi-square of all classes at all redshifts. N spectra, S shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LIGHT_KM_S = 299_792.458

MIN_SEPARATION = 1000 / LIGHT_KM_S
"""Smallest distance of two different redshifts in ln(1 + z): 1,000 km/s, as in redrock."""


@dataclass(frozen=True)
class Curve:
    """Chi-square of one class.

    Parameters
    ----------
    chi2 : Tensor, shape (N, S), float64
        At rising redshifts.
    first_shift : int
        Shift of the first column.
    """

    chi2: Tensor
    first_shift: int


@dataclass(frozen=True)
class Minima:
    """The best minimum of each spectrum and its rivals; all tensors have shape (N,).

    Parameters
    ----------
    log_redshift, error : Tensor, float64
        ln(1 + z) of the best minimum, from a parabola through three points, and its standard error, where chi-square is
        higher by 1. The error is NaN where no parabola has a minimum.
    number : Tensor, int64
        Number of its class.
    chi2 : Tensor, float64
        Chi-square there, as the parabola gives it.
    at_limit : Tensor, bool
        Whether it is the first or the last redshift of its class.
    second_log_redshift : Tensor, float64
        ln(1 + z) of the lowest minimum of any class that is `MIN_SEPARATION` away; NaN if there is none.
    second_number : Tensor, int64
        Its class; -1 if there is none.
    second_chi2 : Tensor, float64
        Its chi-square; infinite if there is none.
    of_class : Tensor, shape (N, C), float64
        Lowest chi-square of each class.
    """

    log_redshift: Tensor
    error: Tensor
    number: Tensor
    chi2: Tensor
    at_limit: Tensor
    second_log_redshift: Tensor
    second_number: Tensor
    second_chi2: Tensor
    of_class: Tensor


def find_minima(curves: Sequence[Curve], step: float) -> Minima:
    """Find the best redshift, and the best one that differs from it.

    Parameters
    ----------
    curves : sequence of Curve
        One for each of C classes.
    step : float
        Step of the shifts in ln(1 + z).
    """
    place, number, dips, ends = [], [], [], []
    for index, curve in enumerate(curves):
        shifts = torch.arange(curve.chi2.shape[1], device=curve.chi2.device)
        place.append((shifts + curve.first_shift).double() * step)
        number.append(torch.full_like(shifts, index))
        ends.append((shifts == 0) | (shifts == len(shifts) - 1))
        dips.append(torch.where(_is_dip(curve.chi2), curve.chi2, torch.inf))
    log_redshift, of_column, end = torch.cat(place), torch.cat(number), torch.cat(ends)
    chi2, candidates = torch.cat([curve.chi2 for curve in curves], dim=1), torch.cat(dips, dim=1)
    best = candidates.argmin(dim=1)
    offset, error, lowest = parabola(chi2, best, end)
    near = (log_redshift - log_redshift[best][:, None]).abs() < MIN_SEPARATION
    rivals = candidates.masked_fill(near, torch.inf)
    second_chi2, second = rivals.min(dim=1)
    alone = torch.isinf(second_chi2)
    return Minima(
        log_redshift=log_redshift[best] + step * offset,
        error=step * error,
        number=of_column[best],
        chi2=lowest,
        at_limit=end[best],
        second_log_redshift=log_redshift[second].masked_fill(alone, torch.nan),
        second_number=of_column[second].masked_fill(alone, -1),
        second_chi2=second_chi2,
        of_class=torch.stack([curve.chi2.amin(dim=1) for curve in curves], dim=1),
    )


def _is_dip(chi2: Tensor) -> Tensor:
    """Return where no neighbour is lower, shape (N, S); the ends count."""
    falling = torch.ones_like(chi2, dtype=torch.bool)
    rising = falling.clone()
    falling[:, 1:] = chi2[:, 1:] <= chi2[:, :-1]
    rising[:, :-1] = chi2[:, :-1] <= chi2[:, 1:]
    return falling & rising


def parabola(chi2: Tensor, column: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return offset and error of the minimum in steps, and chi-square there, from a column and its neighbours.

    `chi2` has the shape (N, S), `column` (N,) the numbers of its lowest values, `end` (S,) bool marks those
    without a neighbour on one side: their error is NaN.
    """
    column = column[:, None]
    left, middle, right = (chi2.gather(1, (column + shift).clamp(0, chi2.shape[1] - 1))[:, 0] for shift in (-1, 0, 1))
    curvature = left - 2 * middle + right
    good = (curvature > 0) & ~end[column[:, 0]]
    safe = torch.where(good, curvature, 1.0)
    offset = torch.where(good, 0.5 * (left - right) / safe, 0.0)
    error = torch.where(good, (2 / safe).sqrt(), torch.nan)
    return offset, error, middle - torch.where(good, 0.5 * safe * offset.square(), 0.0)
