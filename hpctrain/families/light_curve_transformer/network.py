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
from hpctrain.families.light_curve_transformer.section import GRU

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
        curve = CurveEncoder(facts)
        width = 2 * section.width + curve.num_outputs
        super().__init__(section.labels, section.hidden[-1] if section.hidden else width)
        self.facts, self.early_days = facts, section.early_days
        self.gradient_checkpointing = False
        self.curve, self.points = curve, PointEncoder(facts, section.harmonics, section.width)
        shape = (section.width, section.layers)
        self.encoder: nn.Module = (
            Recurrent(*shape, section.dropout)
            if section.encoder == GRU
            else Transformer(*shape, section.heads, section.feedforward, section.dropout)
        )
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
        exists, points = batch.exists, self.points(batch)
        if self.gradient_checkpointing and self.training:
            points = checkpoint(self.encoder, points, exists, use_reentrant=False)
        else:
            points = self.encoder(points, exists)
        found = torch.cat([self.pooling(points, exists), self.curve(batch)], dim=1)
        return self.perceptron(found).float()
