"""Several models of the same labels as one: the weighted mixture of what they predict. N samples, M models."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.families.labels.circular_head import LOG_CONCENTRATION_LIMIT, CircularHead
from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead
from hpctrain.families.labels.head import Head
from hpctrain.families.labels.parts import uncertainty_parts
from hpctrain.families.labels.results import named_classes
from hpctrain.families.labels.value_head import LOG_VARIANCE_LIMIT, ValueHead

_TINY = 1e-30


class Mixture:
    """Label models whose predicted distributions are mixed.

    Parameters
    ----------
    models : sequence of LabelNetwork or Trees
        M models with the same settled labels, in evaluation mode, on any device.
    weights : sequence of float
        Weight of each model; they sum to 1.
    parts : bool
        Also return the aleatoric and the epistemic part of the uncertainty of each label.
    """

    def __init__(self, models: Sequence[Any], weights: Sequence[float], parts: bool = False) -> None:
        self._models, self._parts = models, parts
        self._weights = torch.tensor(weights, dtype=torch.float32)
        self._heads = [[copy.deepcopy(head).cpu() for head in model.heads] for model in models]

    @torch.no_grad()
    def columns(self, batches: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the columns that the mixture predicts, each (N, ...), as those of one model.

        A model that cannot use a sample has no weight for it.

        Parameters
        ----------
        batches : sequence of Batch
            The same N samples for each model, prepared for it, on its device.
        """
        usable = torch.stack([model.usable(batch).cpu() for model, batch in zip(self._models, batches, strict=True)])
        outputs = [
            [outputs.float().cpu() for _, outputs in model.outputs(batch)]
            for model, batch in zip(self._models, batches, strict=True)
        ]
        weight = self._weights[:, None] * usable
        weight = weight / weight.sum(dim=0).clamp(min=_TINY)
        found: dict[str, np.ndarray] = {}
        for heads, each in zip(zip(*self._heads, strict=True), zip(*outputs, strict=True), strict=True):
            pairs = list(zip(heads, each, strict=True))
            head, mixed = mix(pairs, weight)
            more = uncertainty_parts(pairs, weight) if self._parts else {}
            for name, value in {**head.columns(mixed), **more}.items():
                keep = usable.any(dim=0).reshape(-1, *[1] * (value.dim() - 1))
                missing = torch.nan if value.is_floating_point() else -1
                found[f"{head.title}_{name}"] = torch.where(keep, value, missing).numpy()
        return named_classes(found, self._heads[0])


def mix(heads: Sequence[tuple[Head, Tensor]], weight: Tensor) -> tuple[Head, Tensor]:
    """Return a head whose predicted distribution is the mixture of those of several heads.

    Classes and densities are mixed as they are. A value becomes the normal distribution that has the mean and the
    variance of the mixture, an angle the one with its mean direction and resultant length.

    Parameters
    ----------
    heads : sequence of (Head, Tensor)
        Head of the same label of each model, with its outputs (N, K), on the CPU.
    weight : Tensor, shape (M, N)

    Returns
    -------
    head : Head
        With a calibration of 1.
    outputs : Tensor, shape (N, K)
    """
    rule = next(rule for kind, rule in _RULES.items() if isinstance(heads[0][0], kind))
    mixed = copy.deepcopy(heads[0][0]).cpu().eval()
    mixed.forget_calibration()
    scaled = [(head, outputs, float(head.calibration)) for head, outputs in heads]
    return mixed, rule(scaled, weight)


_Scaled = Sequence[tuple[Any, Tensor, float]]


def _probabilities(heads: _Scaled, weight: Tensor) -> Tensor:
    p = torch.zeros_like(heads[0][1])
    for (head, outputs, _), part in zip(heads, weight, strict=True):
        p += part[:, None] * head.probability(outputs)
    return p.clamp(min=_TINY).log()


def _values(heads: _Scaled, weight: Tensor) -> Tensor:
    """Return mean and log variance of the mixture: E[x] and E[s^2 + x^2] - E[x]^2."""
    parts = [head.distribution(outputs) for head, outputs, _ in heads]
    means, variances = (torch.stack(each).double() for each in zip(*parts, strict=True))
    mean = (weight * means).sum(dim=0)
    variance = (weight * (variances + (means - mean).square())).sum(dim=0)
    return torch.stack([mean.float(), _before(variance.log(), LOG_VARIANCE_LIMIT)], dim=1)


def _angles(heads: _Scaled, weight: Tensor) -> Tensor:
    """Return cosine, sine and log concentration of the mixture of wrapped normal distributions."""
    parts = [head.distribution(outputs) for head, outputs, _ in heads]
    angles, variances = (torch.stack(each).double() for each in zip(*parts, strict=True))
    length = weight * torch.exp(-0.5 * variances)
    x, y = ((length * turn(angles)).sum(dim=0) for turn in (torch.cos, torch.sin))
    variance = -2 * torch.hypot(x, y).clamp(min=_TINY, max=1 - 1e-9).log()
    outputs = [x.float(), y.float(), _before(-variance.log(), LOG_CONCENTRATION_LIMIT)]
    return torch.stack(outputs, dim=1)


def _before(value: Tensor, limit: float) -> Tensor:
    """Return what a head turns into `value` by its soft bound limit * tanh(x / limit)."""
    return (limit * torch.atanh((value / limit).clamp(-0.999, 0.999))).float()


_RULES: Mapping[type, Any] = {
    ClassHead: _probabilities,
    DensityHead: _probabilities,
    ValueHead: _values,
    CircularHead: _angles,
}
