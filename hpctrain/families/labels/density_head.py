"""Numbers whose probability density may have several peaks, such as redshifts. N samples, B bins.

The density is constant within each bin of a grid in t, which is the value or ln(1 + value).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hpctrain.families.labels.head import FEWEST_TO_CALIBRATE, Head, fit_temperature
from hpctrain.families.labels.monotone import fit_density, identity_of_density
from hpctrain.families.labels.remapped import remapped_density
from hpctrain.families.labels.section import LabelSection

SMOOTHING_BINS = 0.75
"""Standard deviation [bin] of the normal distribution that a label without an error is spread with: neighbouring bins
then learn from each other, and the place within a bin is learned too."""

PEAK_BINS = 4
"""Bins on each side of the highest one that belong to its peak."""

_QUANTILES = (0.158655, 0.5, 0.841345)


class DensityHead(Head):
    """A probability for each bin of a grid.

    Parameters
    ----------
    label : LabelSection
    num_features : int
    """

    def __init__(self, label: LabelSection, num_features: int) -> None:
        super().__init__(label, num_features, label.bins)
        self.make_grid(label)

    def make_grid(self, label: LabelSection) -> None:
        """Register the edges of the bins in t, shape (B + 1,)."""
        low, high = label.range or (0.0, 1.0)
        self.is_log = label.spacing == "log1p"
        self.low, self.high = (math.log1p(low), math.log1p(high)) if self.is_log else (low, high)
        self.step = (self.high - self.low) / label.bins
        edges = self.low + self.step * torch.arange(label.bins + 1, dtype=torch.float64)
        self.register_buffer("edges", edges.float(), persistent=False)

    def _positions(self, labels: Mapping[str, Tensor], outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the place of the label on the grid and its error [bin], and where there is one; (N,) each."""
        value, error = self.truth(labels, outputs)
        has = torch.isfinite(value)
        value = torch.where(has, value, 0.0)
        if self.is_log:
            error, value = error / (1 + value), torch.log1p(value)
        return (value - self.low) / self.step, torch.where(has, error, 0.0) / self.step, has

    def _target(self, place: Tensor, error: Tensor) -> Tensor:
        """Return the probability of each bin, (N, B): a normal distribution cut at the ends of the grid."""
        sigma = torch.sqrt(error.square() + SMOOTHING_BINS**2)[:, None]
        bounds = torch.arange(self.label.bins + 1, device=place.device, dtype=torch.float32)
        below = 0.5 * (1 + torch.erf((bounds - place[:, None]) / (sigma * math.sqrt(2))))
        target = below[:, 1:] - below[:, :-1]
        return target / target.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def loss(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        place, error, has = self._positions(labels, outputs)
        each = -(self._target(place, error) * outputs.log_softmax(dim=1)).sum(dim=1)
        return torch.where(has, each, 0.0), has.float()

    def _nll(self, outputs: Tensor, place: Tensor, temperature: float | Tensor) -> Tensor:
        """Return minus the log of the density in t at the true place, (N,)."""
        at = place.floor().long().clamp(0, self.label.bins - 1)
        chosen = (outputs / temperature).log_softmax(dim=1).gather(1, at[:, None])[:, 0]
        return math.log(self.step) - chosen

    def _calibrated_nll(self, outputs: Tensor, place: Tensor) -> Tensor:
        """Return the same of the calibrated density, (N,)."""
        if self.monotone is None:
            return self._nll(outputs, place, self.calibration)
        at = place.floor().long().clamp(0, self.label.bins - 1)
        chosen = self.probability(outputs).gather(1, at[:, None])[:, 0]
        return math.log(self.step) - chosen.clamp(min=1e-30).log()

    def _no_map(self) -> np.ndarray:
        return identity_of_density()

    def sums(self, outputs: Tensor, labels: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
        place, _, has = self._positions(labels, outputs)
        counted = counted & has
        residual = torch.where(counted, self._residual(outputs, labels), 0.0)
        found = {
            "num": counted.sum().float(),
            "nll": torch.where(counted, self._calibrated_nll(outputs, place), 0.0).sum(),
            "residual": residual.sum(),
            "square": residual.square().sum(),
        }
        if self.label.outlier is not None:
            found["outliers"] = (residual.abs() > self.label.outlier).sum().float()
        return found

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        if not (num := sums["num"]):
            return {}
        found = {
            "log_loss": sums["nll"] / num,
            "bias": sums["residual"] / num,
            "rmse": math.sqrt(max(sums["square"] / num, 0.0)),
        }
        return found | ({"outliers": sums["outliers"] / num} if "outliers" in sums else {})

    def _residual(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Return predicted minus true value, divided by 1 + value on a grid in ln(1 + value); (N,)."""
        value, _ = self.truth(labels, outputs)
        apart = self.columns(outputs)["PRED"] - value
        return apart / (1 + value) if self.is_log else apart

    def probability(self, outputs: Tensor) -> Tensor:
        """Return the calibrated probability of each bin, (N, B)."""
        p = (outputs / self.calibration).softmax(dim=1)
        return p if self.monotone is None else remapped_density(self.monotone, p)

    def _value(self, t: Tensor) -> Tensor:
        return torch.expm1(t) if self.is_log else t

    def columns(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the mean of the highest peak, quantiles of the density, and the probability of that peak."""
        p = self.probability(outputs)
        number = torch.arange(self.label.bins, device=p.device)
        peak = torch.where((number - p.argmax(dim=1, keepdim=True)).abs() <= PEAK_BINS, p, 0.0)
        mass = peak.sum(dim=1)
        middles = 0.5 * (self.edges[1:] + self.edges[:-1])
        best = (peak * middles).sum(dim=1) / mass
        low, median, high = (self._value(self._quantile(p, share)) for share in _QUANTILES)
        return {
            "PRED": self._value(best),
            "ERR": 0.5 * (high - low),
            "LOW": low,
            "MEDIAN": median,
            "HIGH": high,
            "PEAK": mass,
        }

    def _quantile(self, p: Tensor, share: float) -> Tensor:
        """Return t below which this share of the probability is, (N,)."""
        above = p.cumsum(dim=1)
        at = (above < share).sum(dim=1, keepdim=True).clamp(max=self.label.bins - 1)
        inside = p.gather(1, at)
        part = (share - (above.gather(1, at) - inside)) / inside.clamp(min=1e-12)
        return (self.low + self.step * (at + part.clamp(0, 1)))[:, 0]

    def judged(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the true value, the residual, the probability integral transform, CRPS and likelihood in t, and the
        loss of the density of the value itself, so that grids of different spacing can be compared.
        """
        place, _, has = self._positions(labels, outputs)
        p = self.probability(outputs)
        above = torch.cat([torch.zeros_like(p[:, :1]), p.cumsum(dim=1)], dim=1)
        at = place.floor().long().clamp(0, self.label.bins - 1)[:, None]
        part = (place[:, None] - at).clamp(0, 1)
        pit = _pit(above, p, at, part)
        crps = _crps(above, at, part) * self.step
        own = p.gather(1, at)
        denser = torch.where(p > own, p, 0.0).sum(dim=1) + part[:, 0] * own[:, 0]  # uniform if the density is right
        found = {"PIT": pit, "CRPS": crps, "NLL": self._calibrated_nll(outputs, place), "HPD": denser}
        found["CDE_LOSS"] = self._cde_loss(p, at, self.truth(labels, outputs)[0])
        if self.monotone is not None:
            found["PIT_RAW"] = self._raw_pit(outputs, place)
        found = {name: column.masked_fill(~has, torch.nan) for name, column in found.items()}
        return {"TRUE": self.truth(labels, outputs)[0], "RESIDUAL": self._residual(outputs, labels), **found}

    def _raw_pit(self, outputs: Tensor, place: Tensor) -> Tensor:
        """Return the probability below the true place (N,) before the map, (N,)."""
        p = outputs.softmax(dim=1)
        above = torch.cat([torch.zeros_like(p[:, :1]), p.cumsum(dim=1)], dim=1)
        at = place.floor().long().clamp(0, self.label.bins - 1)[:, None]
        return _pit(above, p, at, (place[:, None] - at).clamp(0, 1))

    def _cde_loss(self, p: Tensor, at: Tensor, value: Tensor) -> Tensor:
        """Return the integral of the squared density of the value, minus twice the density at the truth, (N,).

        Parameters
        ----------
        p : Tensor, shape (N, B)
            Probability of each bin.
        at : Tensor, shape (N, 1), int64
            Bin of the truth.
        value : Tensor, shape (N,)
            The truth.

        References
        ----------
        .. [1] Izbicki & Lee 2017, Electronic Journal of Statistics 11, 2800, arXiv:1704.08095, eq. 7.
        """
        # In ln(1 + value) the density of the value is that of t times exp(-t).
        slope = torch.exp(-self.edges) if self.is_log else -self.edges
        square = ((p / self.step).square() * (slope[:-1] - slope[1:])).sum(dim=1)
        at_truth = p.gather(1, at)[:, 0] / self.step
        return square - 2 * (at_truth / (1 + value) if self.is_log else at_truth)

    def calibrate(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> None:
        place, _, has = self._positions(labels, outputs)
        if int(has.sum()) >= FEWEST_TO_CALIBRATE:
            outputs, place = outputs[has].double(), place[has]
            self.calibration.fill_(fit_temperature(lambda value: self._nll(outputs, place, value).mean().item()))
            if self.monotone is not None:
                pit = self._raw_pit(outputs / self.calibration, place)
                self.monotone.copy_(torch.from_numpy(fit_density(pit.cpu().numpy())))


def _pit(above: Tensor, p: Tensor, at: Tensor, part: Tensor) -> Tensor:
    """Return the probability below the truth, (N,); `p` (N, B) are the probabilities, the others those of `_crps`."""
    return above.gather(1, at)[:, 0] + part[:, 0] * p.gather(1, at)[:, 0]


def _crps(above: Tensor, at: Tensor, part: Tensor) -> Tensor:
    """Return the integral of (F - [t >= truth])^2 in bins, (N,), for a distribution F that is linear within each bin.

    Parameters
    ----------
    above : Tensor, shape (N, B + 1)
        F at the edges of the bins.
    at : Tensor, shape (N, 1), int64
        Bin of the truth.
    part : Tensor, shape (N, 1)
        Place of the truth within its bin, 0 to 1.
    """
    left, right = above[:, :-1], above[:, 1:]
    number = torch.arange(left.shape[1], device=above.device)
    before = _square(left, right)
    after = _square(1 - left, 1 - right)
    whole = torch.where(number < at, before, torch.where(number > at, after, 0.0)).sum(dim=1, keepdim=True)
    low, high = left.gather(1, at), right.gather(1, at)
    middle = low + part * (high - low)
    inside = part * _square(low, middle) + (1 - part) * _square(1 - middle, 1 - high)
    return (whole + inside)[:, 0]


def _square(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of the square of a function that goes straight from `a` to `b`."""
    return (a * a + a * b + b * b) / 3
