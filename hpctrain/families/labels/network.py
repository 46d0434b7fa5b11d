"""A network that learns labels: a body that makes features of a sample, and one head per label. N samples, F features.

The body is the family's; nothing here knows what a sample is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpctrain.families.labels.balance import WEIGHT_SUFFIX
from hpctrain.families.labels.circular_head import CircularHead
from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead
from hpctrain.families.labels.head import Head
from hpctrain.families.labels.section import CIRCULAR, CLASS, DENSITY, VALUE, LabelSection
from hpctrain.families.labels.value_head import ValueHead
from hpctrain.samples.protocols import PADDING_ROW

HEADS: Mapping[str, type] = {CLASS: ClassHead, VALUE: ValueHead, CIRCULAR: CircularHead, DENSITY: DensityHead}
"""Class of the head for each kind of label."""


class LabelNetwork(nn.Module):
    """Base of the networks that learn labels. A subclass defines :meth:`features`.

    Parameters
    ----------
    labels : sequence of LabelSection
        Settled labels. Without the values that depend on the data the network has only about the right size.
    num_features : int
        F.
    """

    def __init__(self, labels: Sequence[LabelSection], num_features: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(HEADS[label.kind](label, num_features) for label in labels)
        self.weights = [label.weight for label in labels]

    def features(self, batch: Any) -> Tensor:
        """Return the features of each sample of a prepared batch, (N, F)."""
        raise NotImplementedError

    def usable(self, batch: Any) -> Tensor:
        """Return, for each sample, whether there is anything to predict from, (N,), bool; padding rows are not."""
        return batch.row != PADDING_ROW

    @property
    def weight_per_sample(self) -> float:
        """About how much one sample adds to ``weight_sum``."""
        return float(sum(self.weights))

    def outputs(self, batch: Any) -> list[tuple[Head, Tensor]]:
        """Return each head with its outputs (N, K)."""
        features = self.features(batch)
        return [(head, head(features)) for head in self.heads]  # type: ignore[misc]

    def forward(self, batch: Any, step: int = 0) -> dict[str, Tensor]:
        """Return the sums that make up the loss and the metrics.

        The loss is the mean over all labels of all samples, each with its weight. A sample without a label adds exactly
        0 for that label.

        Returns
        -------
        dict of Tensor, shape (), float32
            ``loss_sum``, ``weight_sum``, ``num_samples``, and sums of each label, whose names begin with its title.
        """
        usable = self.usable(batch)
        loss_sum = weight_sum = torch.zeros((), device=usable.device)
        counted = torch.zeros_like(usable)
        found: dict[str, Tensor] = {}
        with torch.autocast(usable.device.type, enabled=False):
            for (head, outputs), factor in zip(self.outputs(batch), self.weights, strict=True):
                loss, weight = head.loss(outputs, batch.labels)
                if (own := batch.labels.get(f"{head.title}{WEIGHT_SUFFIX}")) is not None:
                    own = torch.nan_to_num(own)
                    loss, weight = own * loss, own * weight
                loss_sum = loss_sum + factor * torch.where(usable, loss, 0.0).sum()
                weight = torch.where(usable, weight, 0.0)
                weight_sum = weight_sum + factor * weight.sum()
                counted = counted | (weight > 0)
                with torch.no_grad():
                    sums = head.sums(outputs.detach(), batch.labels, usable)
                found |= {f"{head.title}.{name}": value for name, value in sums.items()}
        return {"loss_sum": loss_sum, "weight_sum": weight_sum, "num_samples": counted.sum().float(), **found}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return ``loss``, and the metrics of each label as ``<title>_<metric>``."""
        weight = float(sums["weight_sum"])
        found = {"loss": float(sums["loss_sum"]) / weight if weight else float("nan")}
        for head in self.heads:
            start = f"{head.title}."
            own = {name.removeprefix(start): float(value) for name, value in sums.items() if name.startswith(start)}
            found |= {f"{head.title}_{name}": value for name, value in head.metrics(own).items()}  # type: ignore[operator]
        return found

    def predict(self, batch: Any) -> dict[str, Tensor]:
        """Return the predicted columns of each label as ``<title>_<column>``; NaN or -1 for a sample without input."""
        return self._columns(batch, lambda head, outputs: head.columns(outputs))

    def judged(self, batch: Any) -> dict[str, Tensor]:
        """Return columns that compare the predictions with the labels of the batch; NaN or -1 without a label."""
        return self._columns(batch, lambda head, outputs: _with_outliers(head, head.judged(outputs, batch.labels)))

    def _columns(self, batch: Any, columns: Any) -> dict[str, Tensor]:
        usable = self.usable(batch)
        found = {}
        for head, outputs in self.outputs(batch):
            for name, value in columns(head, outputs).items():
                keep = usable.reshape(-1, *[1] * (value.dim() - 1))
                found[f"{head.title}_{name}"] = torch.where(keep, value, torch.nan if value.is_floating_point() else -1)
        return found

    def calibrate(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> None:
        """Fit the uncertainties to held-out samples.

        Parameters
        ----------
        outputs : mapping of str to Tensor, shape (n, K)
            Outputs of the heads by title, for samples with input only.
        labels : mapping of str to Tensor, shape (n,)
            As in a batch.
        """
        for head in self.heads:
            if head.label.calibration != "none":
                head.calibrate(outputs[head.title], labels)  # type: ignore[operator,index]


def _with_outliers(head: Any, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add which residuals are outliers, where the label sets a limit."""
    residual, limit = columns.get("RESIDUAL"), head.label.outlier
    if residual is None or limit is None:
        return columns
    is_outlier = torch.where(torch.isfinite(residual), (residual.abs() > limit).float(), torch.nan)
    return {**columns, "OUTLIER": is_outlier}
