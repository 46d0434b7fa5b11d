"""Numbers with a period, such as angles and phases: a von Mises distribution. N samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hpctrain.families.labels.head import FEWEST_TO_CALIBRATE, Head, fit_error_scale
from hpctrain.families.labels.section import LabelSection

LOG_CONCENTRATION_LIMIT = 10.0
"""Soft bound of the absolute log concentration."""


class CircularHead(Head):
    """A direction on a circle, and its concentration.

    Parameters
    ----------
    label : LabelSection
    num_features : int

    References
    ----------
    .. [1] Mardia & Jupp 2000, Directional Statistics, Wiley: the von Mises distribution; for a large concentration it
       is a normal distribution of variance 1 / concentration [rad^2].
    """

    def __init__(self, label: LabelSection, num_features: int) -> None:
        super().__init__(label, num_features, 3)
        self.period = label.period or 1.0
        self.radian = self.period / (2 * math.pi)
        torch.nn.init.constant_(self.linear.bias[:1], 1e-3)  # no direction has no gradient

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted angle and the log concentration, (N,) each."""
        limit = LOG_CONCENTRATION_LIMIT
        return torch.atan2(outputs[:, 1], outputs[:, 0]), limit * torch.tanh(outputs[:, 2] / limit)

    def distribution(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return predicted angle [rad] and its calibrated variance [rad^2], (N,) each."""
        angle, log_concentration = self._split(outputs)
        return angle, self.calibration.square() * torch.exp(-log_concentration)

    def _angles(self, labels: Mapping[str, Tensor], outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, error = self.truth(labels, outputs)
        has = torch.isfinite(value)
        return torch.where(has, value, 0.0) / self.radian, torch.where(has, error, 0.0) / self.radian, has

    def loss(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        angle, error, has = self._angles(labels, outputs)
        each = _nll(self._cosine(outputs, angle), self._split(outputs)[1], error)
        return torch.where(has, each, 0.0), has.float()

    def _cosine(self, outputs: Tensor, angle: Tensor) -> Tensor:
        """Return the cosine of the residuals by a product of vectors, whose gradient is finite everywhere; (N,)."""
        length = torch.sqrt(outputs[:, :2].square().sum(dim=1) + 1e-12)
        return (outputs[:, 0] * torch.cos(angle) + outputs[:, 1] * torch.sin(angle)) / length

    def sums(self, outputs: Tensor, labels: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
        each, _ = self.loss(outputs, labels)
        counted = counted & torch.isfinite(self.truth(labels, outputs)[0])
        residual = torch.where(counted, self._residual(outputs, labels), 0.0)
        return {
            "num": counted.sum().float(),
            "nll": torch.where(counted, each, 0.0).sum(),
            "square": residual.square().sum(),
            "absolute": residual.abs().sum(),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        if not (num := sums["num"]):
            return {}
        rmse = math.sqrt(max(sums["square"] / num, 0.0))
        return {"log_loss": sums["nll"] / num, "rmse": rmse, "mae": sums["absolute"] / num}

    def _residual(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Return the shorter way from the true to the predicted value, (N,)."""
        apart = self.columns(outputs)["PRED"] - self.truth(labels, outputs)[0]
        return torch.remainder(apart + 0.5 * self.period, self.period) - 0.5 * self.period

    def columns(self, outputs: Tensor) -> dict[str, Tensor]:
        angle, log_concentration = self._split(outputs)
        error = self.radian * self.calibration * torch.exp(-0.5 * log_concentration)
        return {"PRED": torch.remainder(angle * self.radian, self.period), "ERR": error}

    def judged(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        value, error = self.truth(labels, outputs)
        residual = self._residual(outputs, labels)
        total = torch.sqrt(self.columns(outputs)["ERR"].square() + error.square())
        angle, error, has = self._angles(labels, outputs)
        log_concentration = self._split(outputs)[1] - 2 * self.calibration.log()
        nll = _nll(self._cosine(outputs, angle), log_concentration, error).masked_fill(~has, torch.nan)
        return {"TRUE": value, "RESIDUAL": residual, "PULL": residual / total, "NLL": nll}

    def calibrate(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> None:
        _, error, has = self._angles(labels, outputs)
        if int(has.sum()) >= FEWEST_TO_CALIBRATE:
            _, log_concentration = self._split(outputs)
            sigma = torch.exp(-0.5 * log_concentration[has])
            residual = self._residual(outputs, labels)[has] / self.radian
            self.calibration.fill_(fit_error_scale(residual, sigma, error[has]))


def _nll(cosine: Tensor, log_concentration: Tensor, error: Tensor) -> Tensor:
    """Return the negative log likelihood of a von Mises distribution, widened by the error of the label [rad]."""
    kappa = 1.0 / (torch.exp(-log_concentration) + error.square())
    # log I0(kappa) = log(i0e(kappa)) + kappa does not overflow
    return kappa * (1 - cosine) + torch.log(torch.special.i0e(kappa)) + math.log(2 * math.pi)
