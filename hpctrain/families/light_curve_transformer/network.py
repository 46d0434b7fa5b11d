"""Labels of light curves from points at irregular times.

Legend: N curves, P points, W width, F features.

::

    time, value, error, band, phase ─▶ points (P, W) ─▶ transformer or GRU ─▶ means over points (2 W) ┐
    scatter, length, number, errors, data.features ───────────────────────────────────────────────────┴▶ perceptron (F)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpctrain.families.labels.network import LabelNetwork
from hpctrain.families.light_curve_transformer.encoders import Pooling, Recurrent, Transformer
from hpctrain.families.light_curve_transformer.points import CurveEncoder, PointEncoder
from hpctrain.families.light_curve_transformer.section import GRU, NONE

if TYPE_CHECKING:
    from hpctrain.families.light_curve_transformer.section import LightCurveTransformerSection
    from hpctrain.kinds.light_curves.batch import LightCurveBatch
    from hpctrain.kinds.light_curves.facts import LightCurveFacts


class LightCurveTransformer(LabelNetwork):
    """The network of ``model.family: light_curve_transformer``.

    Parameters
    ----------
    section : LightCurveTransformerSection
        With settled labels.
    facts : LightCurveFacts
    """

    def __init__(self, section: LightCurveTransformerSection, facts: LightCurveFacts) -> None:
        curve = CurveEncoder(facts, section.bins, section.feature_dropout)
        reads_points = section.encoder != NONE
        width = 2 * section.width * reads_points + curve.num_outputs
        super().__init__(section.labels, section.hidden[-1] if section.hidden else width)
        self.facts, self.early_days, self.reads_points = facts, section.early_days, reads_points
        self.gradient_checkpointing = False
        self.curve = curve
        if reads_points:
            self.points = PointEncoder(facts, section.harmonics, section.width)
            self.encoder = _encoder(section)
            self.pooling = Pooling(section.width)
        layers: list[nn.Module] = []
        for next_width in section.hidden:
            layers += [nn.Linear(width, next_width), nn.GELU(), nn.Dropout(section.dropout)]
            width = next_width
        self.perceptron = nn.Sequential(*layers)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the encoder in the backward pass instead of keeping its outputs."""
        self.gradient_checkpointing = True

    def usable(self, batch: LightCurveBatch) -> Tensor:
        """Return, for each curve, whether it has a point, (N,), bool."""
        return batch.exists.any(dim=1)

    def features(self, batch: LightCurveBatch) -> Tensor:
        """Return the features of prepared curves, (N, F), float32."""
        found = [self._from_points(batch)] if self.reads_points else []
        return self.perceptron(torch.cat([*found, self.curve(batch)], dim=1)).float()

    def _from_points(self, batch: LightCurveBatch) -> Tensor:
        exists, points = batch.exists, self.points(batch)
        if self.gradient_checkpointing and self.training:
            points = checkpoint(self.encoder, points, exists, use_reentrant=False)
        else:
            points = self.encoder(points, exists)
        return self.pooling(points, exists)


def _encoder(section: LightCurveTransformerSection) -> nn.Module:
    shape = (section.width, section.layers)
    if section.encoder == GRU:
        return Recurrent(*shape, section.dropout)
    return Transformer(*shape, section.heads, section.feedforward, section.dropout)
