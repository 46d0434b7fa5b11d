"""What a network sees of each point of a light curve, and of the curve as a whole.

N curves, P points, B bands, H harmonics, F features, W width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.batch import LightCurveBatch
    from hpctrain.kinds.light_curves.facts import LightCurveFacts

PHASE_HARMONICS = 4
"""Sines and cosines of the phase."""

_NUM_PLAIN = 5
_NUM_SUMMARY = 4


class PointEncoder(nn.Module):
    """Numbers per point: values, errors, time differences, harmonics of time and phase, and a vector of the band.

    Parameters
    ----------
    facts : LightCurveFacts
    num_harmonics : int
        H.
    width : int
        W.

    References
    ----------
    .. [1] Cabrera-Vives et al. 2024, ATAT, arXiv:2405.03078: time as harmonics, for irregular samples.
    .. [2] Naul et al. 2018, Nature Astronomy 2, 151, arXiv:1711.10609: time differences as inputs, errors as weights.
    """

    def __init__(self, facts: LightCurveFacts, num_harmonics: int, width: int) -> None:
        super().__init__()
        self.num_bands, self.is_folded = len(facts.bands), facts.is_folded
        self.step_days, self.log_span = facts.step_days, math.log1p(facts.span_days / facts.step_days)
        shortest, longest = 2 * facts.step_days, 2 * facts.span_days
        share = torch.linspace(0, 1, num_harmonics, dtype=torch.float64)
        frequency = 2 * math.pi / (shortest * (longest / shortest) ** share)
        self.register_buffer("frequency", frequency.float(), persistent=False)  # [radian per day]
        num = _NUM_PLAIN + 2 * num_harmonics + (2 * PHASE_HARMONICS + 1 if facts.is_folded else 0)
        self.linear = nn.Linear(num, width)
        self.band = nn.Linear(self.num_bands, width, bias=False)
        nn.init.normal_(self.band.weight, std=0.5)

    def forward(self, batch: LightCurveBatch) -> Tensor:
        """Return the numbers (N, P, W) of the points of a prepared batch, float32."""
        with torch.autocast(batch["time"].device.type, enabled=False):
            time, exists = batch["time"], batch.exists
            since = self._log_time(time)
            before = torch.cat([time[:, :1], time[:, :-1]], dim=1)  # points that exist come first
            apart = self._log_time((time - before).clamp(min=0))
            precision = torch.log(batch["error"].clamp(min=1e-6, max=1e6))
            value = torch.asinh(batch["value"])
            signal = torch.asinh(batch["value"] / batch["error"].clamp(min=1e-6))
            angle = time[..., None] * self.frequency
            found = [
                torch.stack([value, 0.3 * signal, 0.3 * precision, since, apart], dim=-1),
                angle.sin(),
                angle.cos(),
            ]
            if self.is_folded:
                found.append(_phases(batch["phase"]))
            points = torch.where(exists[..., None], torch.cat(found, dim=-1), 0.0)
            number = torch.arange(self.num_bands, device=time.device)
            is_band = (batch["band"][..., None] == number).float()
            return self.linear(points) + self.band(is_band)

    def _log_time(self, days: Tensor) -> Tensor:
        """Return the logarithm of a time in units of the step, about 1 for the length of a curve."""
        return torch.log1p(days / self.step_days) / max(self.log_span, 1e-6)


class CurveEncoder(nn.Module):
    """Numbers per curve: its scatter, length, number of points and errors, and the columns of ``data.features``.

    Parameters
    ----------
    facts : LightCurveFacts
    num_bins : int
        T, numbers into which each column is spread; 0 scales it instead.
    dropout : float
        Share of these numbers that are hidden in training.

    Attributes
    ----------
    num_outputs : int

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko 2022, NeurIPS, arXiv:2203.05556, section 3.1: piecewise linear encoding with
       quantiles as edges.
    """

    def __init__(self, facts: LightCurveFacts, num_bins: int, dropout: float) -> None:
        super().__init__()
        self.num_features = len(facts.features)
        self.step_days, self.log_span = facts.step_days, math.log1p(facts.span_days / facts.step_days)
        self.register_buffer("centre", torch.tensor(facts.centre, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(facts.scale, dtype=torch.float32), persistent=False)
        self.num_bins = num_bins if facts.quantiles else 0
        if self.num_bins and self.num_features:
            quantiles = torch.tensor(facts.quantiles, dtype=torch.float64)
            place = torch.linspace(0, quantiles.shape[1] - 1, num_bins + 1).round().long()
            edges = quantiles[:, place]  # (F, T + 1)
            self.register_buffer("edges", edges[:, :-1].float(), persistent=False)
            self.register_buffer("widths", edges.diff(dim=1).clamp(min=1e-30).float(), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.num_outputs = _NUM_SUMMARY + (1 + max(1, self.num_bins)) * self.num_features

    def forward(self, batch: LightCurveBatch) -> Tensor:
        """Return the numbers (N, num_outputs) of a prepared batch, float32; all 0 for a curve without points."""
        exists = batch.exists
        number = exists.sum(dim=1).clamp(min=1)
        span = torch.where(exists, batch["time"], 0.0).amax(dim=1)
        error = torch.where(exists, torch.log(batch["error"].clamp(min=1e-6, max=1e6)), 0.0).sum(dim=1) / number
        summary = [
            torch.log(batch["scale"].clamp(min=1e-12, max=1e12)) / 2,
            torch.log1p(span / self.step_days) / max(self.log_span, 1e-6),
            torch.log(number.float()) / 3,
            error / 2,
        ]
        found = [torch.stack(summary, dim=1)]
        if self.num_features:
            features = batch["features"]
            known = torch.isfinite(features)
            found += [self.dropout(self._spread(features, known)), 1.0 - known.float()]
        return torch.where(exists.any(dim=1, keepdim=True), torch.cat(found, dim=1), 0.0)

    def _spread(self, features: Tensor, known: Tensor) -> Tensor:
        """Return the numbers (N, F T) that stand for the columns (N, F); 0 where one is not known."""
        if not self.num_bins:
            return torch.asinh((torch.where(known, features, self.centre) - self.centre) / self.scale)
        value = torch.where(known, features, self.edges[:, 0])
        share = (value[..., None] - self.edges) / self.widths
        return share.clamp(0.0, 1.0).flatten(1)


def _phases(phase: Tensor) -> Tensor:
    """Return sines and cosines of a phase (N, P), and whether there is one: (N, P, 2 PHASE_HARMONICS + 1)."""
    known = torch.isfinite(phase)[..., None]
    order = torch.arange(1, PHASE_HARMONICS + 1, device=phase.device)
    angle = torch.where(known, phase[..., None], 0.0) * (2 * math.pi) * order
    return torch.where(known, torch.cat([angle.sin(), angle.cos(), torch.ones_like(angle[..., :1])], dim=-1), 0.0)
