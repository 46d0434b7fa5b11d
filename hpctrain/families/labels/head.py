"""What the last layers for all kinds of labels have in common. N samples, F features, K outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.families.labels.columns import ERROR_SUFFIX
from hpctrain.families.labels.section import LabelSection

ONE_SIGMA = 0.6826895
"""Share of a normal distribution within one standard deviation."""

FEWEST_TO_CALIBRATE = 20
"""Smallest number of held-out labels from which an uncertainty is calibrated."""


class Head(nn.Module):
    """The last layer for one label: loss, sums for metrics, predicted columns, and calibrated uncertainty.

    Parameters
    ----------
    label : LabelSection
        A settled label.
    num_features, num_outputs : int
        F and K.

    Attributes
    ----------
    calibration : Tensor, shape ()
        Factor of the uncertainty, 1 until :meth:`calibrate`: the temperature of probabilities, or the factor of
        standard deviations.
    monotone : Tensor, shape (C, K + 1) or (K + 1,), or None
        Map of the probabilities after the temperature, for ``calibration: isotonic``; see
        :mod:`~hpctrain.families.labels.monotone`.
    """

    monotone: Tensor | None

    def __init__(self, label: LabelSection, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.label = label
        self.linear = nn.Linear(num_features, num_outputs)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("calibration", torch.ones(()))
        table = self._no_map() if label.calibration == "isotonic" else None
        self.register_buffer("monotone", None if table is None else torch.from_numpy(table).float())

    def _no_map(self) -> np.ndarray | None:
        """Return the map that changes nothing; None for a kind of label without one."""
        return None

    def forget_calibration(self) -> None:
        """Make the uncertainty what the outputs say."""
        self.calibration.fill_(1.0)
        self.monotone = None

    @property
    def title(self) -> str:
        """First part of the names of columns and metrics."""
        return self.label.title

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (N, K), float32."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(features.float())

    def truth(self, labels: Mapping[str, Tensor], outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and errors of the label (N,), float32; NaN where there is no value, 0 where no error is known.

        For classes the values are int64, -1 where there is none. A batch without labels has none.
        """
        value = labels.get(self.title)
        if value is None:
            value = outputs.new_full(outputs.shape[:1], torch.nan)
        error = labels.get(f"{self.title}{ERROR_SUFFIX}")
        return value, torch.zeros_like(outputs[:, 0]) if error is None else torch.nan_to_num(error)

    def loss(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss of each sample [nat] and its weight, (N,) each; both are 0 where there is no label."""
        raise NotImplementedError

    def sums(self, outputs: Tensor, labels: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
        """Return sums for metrics over the samples where `counted` (N,) is true."""
        raise NotImplementedError

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return readable numbers for sums over an evaluation; none if no sample had this label."""
        raise NotImplementedError

    def columns(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the predicted columns, each (N, ...), with calibrated uncertainty."""
        raise NotImplementedError

    def judged(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return columns (N,) that compare the predictions with the labels; NaN where there is no label."""
        raise NotImplementedError

    def calibrate(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> None:
        """Set `calibration` and `monotone` from held-out samples; too few of them change nothing."""
        raise NotImplementedError


def fit_temperature(loss_at: object, low: float = 0.05, high: float = 20.0, num_steps: int = 60) -> float:
    """Return the temperature with the lowest loss, by a golden-section search in its logarithm.

    Parameters
    ----------
    loss_at : callable
        Returns the mean loss for a temperature, which has one minimum.
    low, high : float
        Range of the temperature.
    num_steps : int

    References
    ----------
    .. [1] Guo et al. 2017, On calibration of modern neural networks, ICML, arXiv:1706.04599.
    """
    ratio = (5**0.5 - 1) / 2
    left, right = torch.tensor(low).log().item(), torch.tensor(high).log().item()
    inner = [right - ratio * (right - left), left + ratio * (right - left)]
    values = [loss_at(_exp(point)) for point in inner]  # type: ignore[operator]
    for _ in range(num_steps):
        if values[0] <= values[1]:
            right, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = right - ratio * (right - left)
            values[0] = loss_at(_exp(inner[0]))  # type: ignore[operator]
        else:
            left, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = left + ratio * (right - left)
            values[1] = loss_at(_exp(inner[1]))  # type: ignore[operator]
    return _exp(0.5 * (left + right))


def fit_error_scale(residual: Tensor, sigma: Tensor, error: Tensor, num_steps: int = 60) -> float:
    """Return the factor of the predicted standard deviations with which 68.3 % of the residuals are within one sigma.

    Parameters
    ----------
    residual, sigma, error : Tensor, shape (n,)
        Predicted minus true value, predicted standard deviation, and error of the label.
    num_steps : int

    Returns
    -------
    float
        Between 0.05 and 20.
    """
    low, high = 0.05, 20.0
    for _ in range(num_steps):
        middle = (low * high) ** 0.5
        within = (residual.abs() <= torch.sqrt((middle * sigma).square() + error.square())).double().mean().item()
        low, high = (low, middle) if within >= ONE_SIGMA else (middle, high)
    return (low * high) ** 0.5


def _exp(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).exp())
