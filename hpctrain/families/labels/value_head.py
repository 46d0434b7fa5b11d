"""Numbers with a Gaussian uncertainty. N samples; values are learned in units of `scale` from `centre`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hpctrain.families.labels.head import FEWEST_TO_CALIBRATE, Head, fit_error_scale
from hpctrain.families.labels.section import LabelSection

LOG_VARIANCE_LIMIT = 12.0
"""Soft bound of the absolute log variance, so that no likelihood overflows."""

_LN10 = math.log(10.0)


class ValueHead(Head):
    """A number, and the standard deviation of the prediction.

    Parameters
    ----------
    label : LabelSection
    num_features : int

    References
    ----------
    .. [1] Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution, ICNN.
    .. [2] Seitzer et al. 2022, On the pitfalls of heteroscedastic uncertainty estimation, ICLR, arXiv:2203.09168: the
       gradient is weighted by the square root of the variance, so that samples which fit badly are not given up.
    """

    def __init__(self, label: LabelSection, num_features: int) -> None:
        super().__init__(label, num_features, 2)
        self.centre, self.scale = label.centre or 0.0, label.scale or 1.0

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        limit = LOG_VARIANCE_LIMIT
        return outputs[:, 0], limit * torch.tanh(outputs[:, 1] / limit)

    def distribution(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and calibrated variance of the prediction in the units of the network, (N,) each."""
        mean, log_variance = self._split(outputs)
        return mean, self.calibration.square() * log_variance.exp()

    def _learned(self, labels: Mapping[str, Tensor], outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value and error in the units of the network, and where there is a value; (N,) each."""
        value, error = self.truth(labels, outputs)
        has = torch.isfinite(value)
        value = torch.where(has, value, 1.0)
        if self.label.log10:
            error, value = error / (value * _LN10), torch.log10(value)
        return (value - self.centre) / self.scale, torch.where(has, error, 0.0) / self.scale, has

    def _nll(self, outputs: Tensor, value: Tensor, error: Tensor) -> Tensor:
        mean, log_variance = self._split(outputs)
        variance = self.calibration.square() * log_variance.exp() + error.square()
        return 0.5 * ((value - mean).square() / variance + variance.log() + math.log(2 * math.pi))

    def loss(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        value, error, has = self._learned(labels, outputs)
        mean, log_variance = self._split(outputs)
        variance = log_variance.exp() + error.square()
        each = 0.5 * ((value - mean).square() / variance + variance.log())
        # The value stays the likelihood; only its gradient is weighted.
        weighted = each.detach() + variance.detach().sqrt() * (each - each.detach())
        return torch.where(has, weighted, 0.0), has.float()

    def sums(self, outputs: Tensor, labels: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
        value, error, has = self._learned(labels, outputs)
        counted = counted & has
        found = {"num": counted.sum().float()}
        found["nll"] = torch.where(counted, self._nll(outputs, value, error), 0.0).sum()
        residual = torch.where(counted, self._residual(outputs, labels), 0.0)
        return found | {"residual": residual.sum(), "square": residual.square().sum(), "absolute": residual.abs().sum()}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        if not (num := sums["num"]):
            return {}
        return {
            "log_loss": sums["nll"] / num,
            "bias": sums["residual"] / num,
            "rmse": math.sqrt(max(sums["square"] / num, 0.0)),
            "mae": sums["absolute"] / num,
        }

    def _residual(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        return self.columns(outputs)["PRED"] - self.truth(labels, outputs)[0]

    def columns(self, outputs: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._split(outputs)
        value = self.centre + self.scale * mean
        error = self.scale * self.calibration * torch.exp(0.5 * log_variance)
        if self.label.log10:
            value = torch.pow(10.0, value)
            error = value * _LN10 * error
        return {"PRED": value, "ERR": error}

    def judged(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        value, error, has = self._learned(labels, outputs)
        mean, log_variance = self._split(outputs)
        sigma = torch.sqrt(self.calibration.square() * log_variance.exp() + error.square())
        pull = (value - mean) / sigma
        pit = 0.5 * (1 + torch.erf(pull / math.sqrt(2)))
        density = torch.exp(-0.5 * pull.square()) / math.sqrt(2 * math.pi)
        crps = sigma * (pull * (2 * pit - 1) + 2 * density - 1 / math.sqrt(math.pi))
        nll = self._nll(outputs, value, error) + math.log(self.scale)
        found = {"PIT": pit, "CRPS": crps * self.scale, "PULL": -pull, "NLL": nll}
        found = {name: column.masked_fill(~has, torch.nan) for name, column in found.items()}
        return {"TRUE": self.truth(labels, outputs)[0], "RESIDUAL": self._residual(outputs, labels), **found}

    def calibrate(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> None:
        value, error, has = self._learned(labels, outputs)
        mean, log_variance = self._split(outputs)
        if int(has.sum()) >= FEWEST_TO_CALIBRATE:
            sigma = torch.exp(0.5 * log_variance[has])
            self.calibration.fill_(fit_error_scale((mean - value)[has], sigma, error[has]))
