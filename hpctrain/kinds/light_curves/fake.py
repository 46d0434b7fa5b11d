"""A batch of light curves of any values, for the memory estimate."""

from __future__ import annotations

import torch

from hpctrain.kinds.light_curves.batch import LightCurveBatch
from hpctrain.kinds.light_curves.facts import LightCurveFacts


def fake_batch(facts: LightCurveFacts, num_curves: int) -> LightCurveBatch:
    """Return a prepared batch whose curves all have as many points as they may."""
    shape = (num_curves, facts.max_points)
    columns = {
        "time": torch.ones(shape),
        "value": torch.ones(shape),
        "error": torch.ones(shape),
        "band": torch.zeros(shape, dtype=torch.int16),
        "scale": torch.ones(num_curves),
        "num_bad": torch.zeros(num_curves, dtype=torch.int64),
    }
    if facts.is_folded:
        columns["phase"] = torch.zeros(shape)
    if facts.features:
        columns["features"] = torch.zeros(num_curves, len(facts.features))
    row = torch.zeros(num_curves, dtype=torch.int64)
    return LightCurveBatch(columns, row, torch.zeros_like(row), max_points=facts.max_points)
