"""Probability density of the redshift, from chi-square at all redshifts. N spectra, S shifts, Z bins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.redshift.minima import Curve

BIN_WIDTH = 0.005
"""Approximate width of a bin in ln(1 + z): 1,500 km/s."""


class Density:
    """Adds up the probability of all classes in bins of equal width in ln(1 + z).

    Parameters
    ----------
    first_shift, last_shift : int
        Range of the shifts of all classes.
    step : float
        Step of the shifts in ln(1 + z).
    """

    def __init__(self, first_shift: int, last_shift: int, step: float) -> None:
        self._shifts = max(1, round(BIN_WIDTH / step))
        self._first = first_shift // self._shifts
        self.num_bins = last_shift // self._shifts - self._first + 1
        self._step = step

    @property
    def edges(self) -> Tensor:
        """Edges of the bins as redshifts, shape (Z + 1,), float64."""
        shifts = (self._first + torch.arange(self.num_bins + 1, dtype=torch.float64)) * self._shifts - 0.5
        return torch.expm1(self._step * shifts)

    def __call__(self, curves: Sequence[Curve], num_valid: Tensor) -> Tensor:
        """Return the probability of each bin.

        All classes and all values of ln(1 + z) have the same prior probability. If chi-square of the best model is
        larger than the number of pixels, the templates do not describe the spectrum to its noise. Chi-square is then
        divided by that ratio, so that an imperfect template does not look like certainty.

        Parameters
        ----------
        curves : sequence of Curve
            One for each class.
        num_valid : Tensor, shape (N,)
            Pixels with weight.

        Returns
        -------
        Tensor, shape (N, Z), float64
            Sums to 1 over the bins.
        """
        lowest = torch.stack([curve.chi2.amin(dim=1) for curve in curves]).amin(dim=0)
        scale = (lowest / num_valid.clamp(min=1)).clamp(min=1)
        total = lowest.new_zeros(len(lowest), self.num_bins)
        for curve in curves:
            likelihood = torch.exp(-0.5 * (curve.chi2 - lowest[:, None]) / scale[:, None])
            before = curve.first_shift - (curve.first_shift // self._shifts) * self._shifts
            after = -(before + likelihood.shape[1]) % self._shifts
            padded = torch.nn.functional.pad(likelihood, (before, after))
            bins = padded.view(len(padded), -1, self._shifts).sum(dim=2)
            start = curve.first_shift // self._shifts - self._first
            total[:, start : start + bins.shape[1]] += bins
        return total / total.sum(dim=1, keepdim=True)
