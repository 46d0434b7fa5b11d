"""Loss and gradient of each sample of a step, computed alone with the weights from before the step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.rehearsal.carriers import Carrier, carriers
from hpctrain.rehearsal.stage import batches_of, rows_at
from hpctrain.rehearsal.tensors import LABEL, only, prepared, sample_axes, tensors_of, with_leaves
from hpctrain.samples.protocols import PADDING_ROW
from hpctrain.train.arithmetic import AUTOCAST
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.run import Run
from hpctrain.train.schedule import mix

SHOWN = 6
"""Largest number of samples whose values are kept and drawn."""
OUTLYING = 10.0
"""How many times the median of the batch a loss or gradient is that stands out."""
_SHARE = 3.0
"""How many times the mean share it must be, too."""


@dataclass
class Object:
    """One sample of the step.

    Parameters
    ----------
    target_id, row, micro : int
        Identifier, row of the whole set, and number of its micro-batch.
    file : str
    row_of_file : int
    loss, weight : float
        What it adds to the summed loss and to the weight by which that is divided.
    gradient_norm : float
        Norm of the gradient of its summed loss with respect to all weights.
    loss_share, gradient_share : float or None
        Shares of absolute losses and of gradient norms of the batch; None where they are not finite.
    labels : dict
        Its labels, and how far each lies from the median of the batch.
    stands_out : str
        Why it is to blame, in words; empty if it is not.
    """

    target_id: int
    row: int
    micro: int
    file: str
    row_of_file: int
    loss: float
    weight: float
    gradient_norm: float
    carriers: list[Carrier]
    labels: dict[str, dict[str, float | None]]
    loss_share: float | None = None
    gradient_share: float | None = None
    stands_out: str = ""
    tensors: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    @property
    def rank(self) -> tuple[bool, float]:
        """Key for sorting, the most suspicious sample last."""
        return not self.is_finite, max(self.loss_share or 0.0, self.gradient_share or 0.0)


def objects_of(run: Run, step: int, tick: Callable[[int], Any]) -> list[Object]:
    """Return the samples of the step from `step` to ``step + 1``, the most suspicious first; padding is left out.

    Parameters
    ----------
    run : Run
        With the weights from before the step.
    step : int
    tick : callable
        Takes the number of samples that are done.
    """
    found: list[Object] = []
    rows = rows_at(run, step)
    axes: frozenset[str] | None = None
    with batches_of(run, range(step, step + 1)) as batches:
        for micro, raw in enumerate(batches):
            if axes is None:
                axes = sample_axes(run, prepared(run, raw, step, micro), step)
            batch = prepared(run, raw, step, micro)
            for number, row in enumerate(rows[micro]):
                if row != PADDING_ROW:
                    found.append(_measured(run, batch, number, int(row), step, micro, axes))
                    tick(len(found))
            _forget(found)
    run.model.zero_grad(set_to_none=True)
    _judge(found)
    found.sort(key=lambda item: item.rank, reverse=True)
    for item in found[SHOWN:]:
        item.tensors = {}
    return found


def _forget(found: list[Object]) -> None:
    """Keep the tensors only of samples that may come first: a batch of large images would not fit into memory."""
    kept: set[int] = set()
    for value in ("loss", "gradient_norm"):
        kept |= set(np.argsort([-np.nan_to_num(abs(getattr(item, value)), nan=np.inf) for item in found])[:SHOWN])
    for number, item in enumerate(found):
        if number not in kept:
            item.tensors = {}


def _measured(run: Run, batch: Any, number: int, row: int, step: int, micro: int, axes: frozenset[str]) -> Object:
    alone, leaves = with_leaves(only(batch, number, axes))
    loss, weight, norm = _loss_and_gradient(run, alone, step, micro)
    whole = tensors_of(batch)
    own = {name: tensor[number] if name in axes else tensor for name, tensor in whole.items()}
    where = own.get(run.kind.coordinate) if run.kind.coordinate else None
    path, row_of_file = run.data.samples.locate(row)
    return Object(
        target_id=int(run.data.samples.target_id[row]),
        row=row,
        micro=micro,
        file=str(path),
        row_of_file=int(row_of_file),
        loss=loss,
        weight=weight,
        gradient_norm=norm,
        carriers=carriers(leaves, whole, None if where is None else where.float().cpu().numpy()),
        labels=_labels(own, whole),
        tensors={name: tensor.detach().float().cpu().numpy() for name, tensor in own.items()},
    )


def _loss_and_gradient(run: Run, alone: Any, step: int, micro: int) -> tuple[float, float, float]:
    """Return the summed loss of a sample, its weight, and the norm of its gradient."""
    # The factor of the trainer, so that fp16 overflows where it did in the run.
    scale = float(run.loss_scale.value) / (run.schedule.micro_batch * float(getattr(run.model, "weight_per_sample", 1)))
    seed_random_numbers(run.device, mix(run.profile.train.seed, step, micro))
    run.model.zero_grad(set_to_none=True)
    with autocast(run):
        sums = run.model(alone, step)
    if sums["loss_sum"].requires_grad:
        (sums["loss_sum"] * scale).backward()
    norms = [torch.linalg.vector_norm(p.grad.double()) for p in run.model.parameters() if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(norms))) / scale if norms else 0.0
    return float(sums["loss_sum"].detach()), float(sums["weight_sum"].detach()), norm


@contextlib.contextmanager
def autocast(run: Run) -> Iterator[None]:
    """Compute in the precision of the run."""
    dtype = AUTOCAST.get(run.profile.train.precision)
    with contextlib.nullcontext() if dtype is None else torch.autocast(run.device.type, dtype=dtype):
        yield


def _labels(own: dict[str, Tensor], whole: dict[str, Tensor]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name, value in own.items():
        if not name.startswith(LABEL) or value.dim():
            continue
        height = None
        if torch.is_floating_point(value) and bool(torch.isfinite(value)):
            known = whole[name].double()[torch.isfinite(whole[name])]
            spread = 1.4826 * float((known - known.median()).abs().median())
            height = abs(float(value) - float(known.median())) / spread if spread else None
        found[name.removeprefix(LABEL)] = {"value": float(value), "height": height}
    return found


def _judge(found: list[Object]) -> None:
    """Add shares, and say which samples stand out."""
    finite = [item for item in found if item.is_finite]
    losses = np.array([abs(item.loss) for item in finite])
    norms = np.array([item.gradient_norm for item in finite])
    for item in found:
        if not item.is_finite:
            what = "loss" if not math.isfinite(item.loss) else "gradient"
            item.stands_out = f"its {what} alone is not finite"
    for item, loss, norm in zip(finite, losses, norms, strict=True):
        item.loss_share, item.gradient_share = _share(loss, losses), _share(norm, norms)
        reasons = [
            f"its {what} is {value / np.median(values):.3g} times the median of the batch"
            for what, value, values in (("loss", loss, losses), ("gradient", norm, norms))
            if _is_outlying(value, values)
        ]
        item.stands_out = " and ".join(reasons)


def _share(value: float, values: np.ndarray) -> float:
    total = float(values.sum())
    return float(value) / total if total else 0.0


def _is_outlying(value: float, values: np.ndarray) -> bool:
    middle = float(np.median(values))
    return middle > 0 and value > OUTLYING * middle and value > _SHARE * float(values.mean())
