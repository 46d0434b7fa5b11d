"""Histograms of weights and gradients, counted on the device that holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NUM_BINS = 64


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite values of a tensor in :data:`NUM_BINS` bins of equal width.

    Parameters
    ----------
    low, high : float
        Lower edge of the first bin and upper edge of the last one: the smallest and the largest value.
    num : int
        Number of finite values.
    total, total_squares : float
        Sum of the values and of their squares.
    upper_edges : list of float
        Upper edge of each bin.
    counts : list of float
        Number of values in each bin.
    """

    low: float
    high: float
    num: int
    total: float
    total_squares: float
    upper_edges: list[float]
    counts: list[float]


def histograms_of(named_parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> dict[str, Histogram]:
    """Return the histograms of weights and, where there are any, gradients.

    The device of the parameters computes the histograms and copies only 64 numbers per parameter to the host.

    Parameters
    ----------
    named_parameters : iterable of (str, Parameter)
        Parameters, for example ``model.named_parameters()``.

    Returns
    -------
    dict of str to Histogram
        Named ``weights/<parameter>`` and ``gradients/<parameter>``; without tensors that have no finite value.
    """
    found: dict[str, Histogram] = {}
    for name, parameter in named_parameters:
        label = name.removeprefix("module.").removeprefix("_orig_mod.")
        for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
            histogram = None if tensor is None else histogram_of(tensor.detach())
            if histogram is not None:
                found[f"{kind}/{label}"] = histogram
    return found


def histogram_of(values: torch.Tensor) -> Histogram | None:
    """Return the histogram of the finite values of a tensor of any shape; None if there are none."""
    import torch

    values = values.float().flatten()
    values = values[torch.isfinite(values)]
    if not values.numel():
        return None
    low, high = torch.aminmax(values)
    # one copy to the host instead of four; float64, because a sum of squares overflows float32
    table = torch.stack([low, high, values.sum(dtype=torch.float64), values.square().sum(dtype=torch.float64)])
    low, high, total, total_squares = table.tolist()
    if low == high:  # constant values: TensorBoard shows nothing for bins of width zero
        low, high = low - 1e-12 - abs(low) * 1e-6, high + 1e-12 + abs(high) * 1e-6
    counts = torch.histc(values, bins=NUM_BINS, min=low, max=high).cpu()
    edges = torch.linspace(low, high, NUM_BINS + 1, dtype=torch.float64)[1:]
    return Histogram(low, high, values.numel(), total, total_squares, edges.tolist(), counts.tolist())
