"""What the leaves of a forest hold for each kind of label, and how the heads read it. N objects, K numbers, B bins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from hpctrain.families.labels.balance import WEIGHT_SUFFIX
from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead
from hpctrain.families.labels.head import FEWEST_TO_CALIBRATE, Head
from hpctrain.families.labels.network import HEADS, LabelNetwork
from hpctrain.families.labels.section import CIRCULAR, CLASS, DENSITY, VALUE, LabelSection
from hpctrain.samples.protocols import PADDING_ROW

_LN10 = math.log(10.0)
_LEAST_CLASS_SHARE = 1e-3
"""Probability that is shared among all classes, so that a class that no leaf holds has a finite log."""
_LEAST_BIN_SHARE = 1e-4
"""The same for the bins of a density."""
_LEAST_VARIANCE = 1e-6
"""Smallest variance of a value, in units of the label's scale."""
WIDTHS_BIN = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
"""Standard deviations [bin] that the calibration of a density chooses from."""


class SmoothedDensityHead(DensityHead):
    """A density whose training labels in the leaves are smoothed with a normal distribution of a calibrated width."""

    def __init__(self, label: LabelSection, num_features: int) -> None:
        super().__init__(label, num_features)
        self.register_buffer("width", torch.tensor(3.0))  # [bin], until it is calibrated

    def smoothed(self, p: np.ndarray) -> Tensor:
        """Return the log of the smoothed probabilities, (N, B), float32."""
        p = gaussian_filter1d(p, float(self.width), axis=1, mode="reflect")
        p = (1 - _LEAST_BIN_SHARE) * p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12) + _LEAST_BIN_SHARE / p.shape[1]
        return torch.from_numpy(np.log(p).astype(np.float32))

    def choose_width(self, p: np.ndarray, labels: Mapping[str, Tensor]) -> None:
        """Set the width with the highest likelihood of the labels; too few of them leave it as it is."""
        place, _, has = self._positions(labels, torch.from_numpy(p).float())
        if int(has.sum()) < FEWEST_TO_CALIBRATE:
            return
        kept = p[has.numpy()]
        losses = []
        for width in WIDTHS_BIN:
            self.width.fill_(width)
            losses.append(self._nll(self.smoothed(kept), place[has], 1.0).mean().item())
        self.width.fill_(WIDTHS_BIN[int(np.argmin(losses))])


class LeafLabels(LabelNetwork):
    """The heads of all labels, whose outputs come from leaves. Its own layers stay unused."""

    def __init__(self, labels: list[LabelSection]) -> None:
        torch.nn.Module.__init__(self)
        heads = {**HEADS, DENSITY: SmoothedDensityHead}
        self.heads = torch.nn.ModuleList(heads[label.kind](label, 1) for label in labels)
        self.weights = [label.weight for label in labels]
        self.eval()

    def outputs(self, batch: Any) -> list[tuple[Head, Tensor]]:
        return list(zip(self.heads, batch.outputs, strict=True))  # type: ignore[arg-type]

    def usable(self, batch: Any) -> Tensor:
        return (batch.row != PADDING_ROW) & batch.has_input


def targets_of(head: Head, labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return what a tree learns, and the weight of each object; weight 0 where there is no label.

    Parameters
    ----------
    head : Head
    labels : mapping of str to ndarray, shape (N,)
        As in a batch.

    Returns
    -------
    targets : ndarray, shape (N, K), float64
        Of a class one number per class, of a value the value in units of its scale, of an angle its cosine and sine,
        of a density the place on the grid in bins.
    weight : ndarray, shape (N,), float64
    """
    label, values = head.label, labels[head.title]
    own = np.nan_to_num(labels.get(f"{label.title}{WEIGHT_SUFFIX}", np.ones(len(values))).astype(np.float64))
    if isinstance(head, ClassHead):
        has = values >= 0
        targets = np.eye(head.num_classes)[np.where(has, values, 0)]
        return targets, own * np.where(has, head.class_weights.numpy()[np.where(has, values, 0)], 0.0)
    error = np.nan_to_num(labels.get(f"{label.title}.error", np.zeros(len(values))).astype(np.float64))
    has = np.isfinite(values)
    values = np.where(has, values, 1.0).astype(np.float64)
    if label.kind == CIRCULAR:
        angle = 2 * math.pi * values / (label.period or 1.0)
        targets = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        error = 2 * math.pi * error / (label.period or 1.0)
    elif label.kind == DENSITY:
        if head.is_log:
            error, values = error / (1 + values), np.log1p(values)
        targets, error = ((values - head.low) / head.step)[:, None], error / (head.high - head.low)
    else:
        if label.log10:
            error, values = error / (values * _LN10), np.log10(values)
        scale = label.scale or 1.0
        targets, error = ((values - (label.centre or 0.0)) / scale)[:, None], error / scale
    return targets, own * np.where(has, 1 / (1 + np.square(error)), 0.0)


def num_leaf_values(head: Head) -> int:
    """Return K, the length of what a leaf of a forest holds; a density holds its labels one by one instead."""
    return {CLASS: getattr(head, "num_classes", 0), VALUE: 2, CIRCULAR: 2, DENSITY: 0}[head.label.kind]


def leaf_values(head: Head, targets: np.ndarray) -> np.ndarray:
    """Return the numbers (N, K) whose mean over the objects of a leaf the leaf holds."""
    return np.concatenate([targets, np.square(targets)], axis=1) if head.label.kind == VALUE else targets


def explained_leaves(head: Head, leaves: list[Any]) -> tuple[list[np.ndarray], str]:
    """Return the numbers (P, K) of each tree's leaves that explain a prediction, and their unit.

    Shares of the classes; the mean of a value or a density, with an empty unit for that of the label; cosine and sine
    of an angle.
    """
    if isinstance(head, SmoothedDensityHead):
        middle = head.low + head.step * (np.arange(head.label.bins) + 0.5)
        middle = np.expm1(middle) if head.is_log else middle
        return [np.asarray(each @ middle)[:, None] for each in leaves], ""
    if head.label.kind == VALUE:
        return [each[:, :1] * (head.label.scale or 1.0) for each in leaves], unit_of_value(head)
    return leaves, "probability" if isinstance(head, ClassHead) else "cosine, sine"


def unit_of_value(head: Head) -> str:
    """Return the unit in which a value is learned: empty for that of the label."""
    return "log10" if head.label.log10 else ""


def outputs_of(head: Head, mean: np.ndarray) -> Tensor:
    """Return the outputs of a head for the mean of the leaves of all trees, (N, K), or (N, B) for a density."""
    if isinstance(head, SmoothedDensityHead):
        return head.smoothed(mean)
    if isinstance(head, ClassHead):
        total = np.maximum(mean.sum(axis=1, keepdims=True), 1e-12)
        p = (1 - _LEAST_CLASS_SHARE) * mean / total + _LEAST_CLASS_SHARE / mean.shape[1]
        return torch.from_numpy(np.log(p).astype(np.float32))
    if head.label.kind == CIRCULAR:
        length = np.clip(np.hypot(*mean.T), 1e-6, 1 - 1e-6)
        kappa = length * (2 - length**2) / (1 - length**2)  # Banerjee et al. 2005, JMLR 6, equation 4.4
        found = np.stack([*mean.T, _before_limit(np.log(kappa), 10.0)], axis=1)
        return torch.from_numpy(found.astype(np.float32))
    variance = np.maximum(mean[:, 1] - mean[:, 0] ** 2, _LEAST_VARIANCE)
    return value_outputs(mean[:, 0], np.log(variance))


def value_outputs(mean: np.ndarray, log_variance: np.ndarray) -> Tensor:
    """Return the outputs (N, 2) of a value for its mean and log variance (N,) in units of its scale."""
    return torch.from_numpy(np.stack([mean, _before_limit(log_variance, 12.0)], axis=1).astype(np.float32))


def _before_limit(value: np.ndarray, limit: float) -> np.ndarray:
    """Return what a head turns into `value` by its soft bound limit * tanh(x / limit)."""
    return limit * np.arctanh(np.clip(value / limit, -0.999, 0.999))
