"""What part of an uncertainty more data would remove: several models, or several passes of one with dropout. N samples,
M models or passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead

_TINY = 1e-30


def uncertainty_parts(heads: Sequence[tuple[Any, Tensor]], weight: Tensor) -> dict[str, Tensor]:
    """Return the aleatoric and the epistemic part of the uncertainty of one label.

    Of a class they are entropies [nat]: the mean entropy of the models, and what the entropy of their mixture has
    beyond it (the mutual information of class and model). Of a number they are standard deviations, in the unit of the
    errors: the root of the mean variance of the models, and the scatter of their means.

    Parameters
    ----------
    heads : sequence of (Head, Tensor)
        Head of the label of each model, with its outputs (N, K).
    weight : Tensor, shape (M, N)
        Weights of the models; they sum to 1 for each sample that any of them can use.

    Returns
    -------
    dict of Tensor, shape (N,)
        ``ALEATORIC`` and ``EPISTEMIC``.

    References
    ----------
    .. [1] Depeweg et al. 2018, ICML, arXiv:1710.07283.
    .. [2] Lakshminarayanan, Pritzel & Blundell 2017, NeurIPS, arXiv:1612.01474: ensembles.
    .. [3] Gal & Ghahramani 2016, ICML, arXiv:1506.02142: dropout.
    """
    first = heads[0][0]
    if isinstance(first, ClassHead):
        each = torch.stack([head.probability(outputs) for head, outputs in heads]).double()
        total = _entropy((weight[:, :, None] * each).sum(dim=0))
        within = (weight * _entropy(each)).sum(dim=0)
        return {"ALEATORIC": within.float(), "EPISTEMIC": (total - within).clamp(min=0).float()}
    if isinstance(first, DensityHead):
        means, variances = _of_densities(heads)
    else:
        columns = [head.columns(outputs) for head, outputs in heads]
        means = torch.stack([each["PRED"] for each in columns]).double()
        variances = torch.stack([each["ERR"] for each in columns]).double().square()
    if first.label.period is not None:  # the shorter way from the first model
        period = first.label.period
        means = torch.remainder(means - means[:1] + 0.5 * period, period) - 0.5 * period
    mean = (weight * means).sum(dim=0)
    between = (weight * (means - mean).square()).sum(dim=0)
    within = (weight * variances).sum(dim=0)
    return {"ALEATORIC": within.sqrt().float(), "EPISTEMIC": between.sqrt().float()}


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp(min=_TINY).log()).sum(dim=-1)


def _of_densities(heads: Sequence[tuple[Any, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the predicted densities, (M, N) each, in the unit of the label."""
    means, variances = [], []
    for head, outputs in heads:
        edges = head.edges.double()
        middle = 0.5 * (edges[1:] + edges[:-1])
        value = torch.expm1(middle) if head.is_log else middle
        p = head.probability(outputs).double()
        mean = p @ value
        means.append(mean)
        variances.append((p * (value - mean[:, None]).square()).sum(dim=1))
    return torch.stack(means), torch.stack(variances)


def has_dropout(model: Any) -> bool:
    """Return whether a model has a layer with dropout, which can be left on for several passes."""
    return isinstance(model, nn.Module) and any(_drops(layer) for layer in model.modules())


def _drops(layer: nn.Module) -> bool:
    if isinstance(layer, (nn.GRU, nn.LSTM, nn.RNN)):
        return layer.dropout > 0
    return isinstance(layer, nn.Dropout) and layer.p > 0


class Dropped:
    """A network whose dropout stays on, with random numbers that depend on nothing but seed, pass and rows.

    Parameters
    ----------
    model : LabelNetwork
        In evaluation mode; only its layers with dropout change, and only while they compute.
    seed : int
    number : int
        Number of the pass.
    """

    def __init__(self, model: Any, seed: int, number: int) -> None:
        self.model, self.seed, self.number = model, seed, number
        self.heads, self.usable = model.heads, model.usable

    @torch.no_grad()
    def outputs(self, batch: Any) -> list[tuple[Any, Tensor]]:
        """Return each head with its outputs (N, K)."""
        first = int(batch.row.max().item()) + 1  # rows of a batch: another batch has other random numbers
        layers = [layer for layer in self.model.modules() if _drops(layer)]
        devices = [batch.row.device] if batch.row.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(((self.seed * 1_000_003 + self.number) * 1_000_003 + first) % 2**63)
            try:
                for layer in layers:
                    layer.train()
                return self.model.outputs(batch)
            finally:
                for layer in layers:
                    layer.eval()
