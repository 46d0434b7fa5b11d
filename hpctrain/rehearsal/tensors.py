"""The tensors of a batch of any kind, by name; and a batch of one sample. N samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.samples.protocols import PADDING_ROW, Batch
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.run import Run

LABEL = "labels."
"""Beginning of the names of labels."""

Change = Callable[[str, Tensor], Tensor]


def prepared(run: Run, batch: Batch, step: int, micro: int) -> Batch:
    """Clean, normalise and augment a micro-batch with the random numbers of the step."""
    seed_random_numbers(run.device, mix(run.profile.train.seed, step, micro))
    batch = run.prepare(batch.to(run.device))
    return batch if run.augment is None else run.augment(batch)


def changed(batch: Any, change: Change) -> Any:
    """Return a batch whose tensors are ``change(name, tensor)``, also those in mappings."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            fields[field.name] = change(field.name, value)
        elif isinstance(value, Mapping):
            prefix = LABEL if field.name == "labels" else ""  # a label may have the name of an input
            fields[field.name] = {name: change(f"{prefix}{name}", tensor) for name, tensor in value.items()}
    return dataclasses.replace(batch, **fields)


def tensors_of(batch: Any) -> dict[str, Tensor]:
    """Return all tensors of a batch by name, also those in mappings."""
    found: dict[str, Tensor] = {}

    def note(name: str, tensor: Tensor) -> Tensor:
        found[name] = tensor
        return tensor

    changed(batch, note)
    return found


def sample_axes(run: Run, batch: Batch, step: int) -> frozenset[str]:
    """Return the names of the tensors that have a line for each sample, and not values that all samples share.

    They are found by the shapes of a batch of padding with one more sample: a shared axis may happen to be as long as
    the batch.
    """
    size = len(batch) + 1
    other = tensors_of(prepared(run, run.data.samples.read(np.full(size, PADDING_ROW, dtype=np.int64)), step, 0))
    return frozenset(
        name
        for name, tensor in tensors_of(batch).items()
        if tensor.dim() and len(tensor) == len(batch) and (name not in other or len(other[name]) == size)
    )


def only(batch: Any, number: int, per_sample: frozenset[str]) -> Any:
    """Return a batch of one sample."""
    return changed(batch, lambda name, t: t[number : number + 1] if name in per_sample else t)


def with_leaves(batch: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return the batch with inputs that take part in the gradient, and these inputs by name.

    Only numbers that a network reads count: ``batch.tensors()`` as far as they are stored as floating-point numbers.
    """
    read = set(batch.tensors())
    leaves: dict[str, Tensor] = {}

    def follow(name: str, tensor: Tensor) -> Tensor:
        if name not in read or not torch.is_floating_point(tensor):
            return tensor
        leaves[name] = tensor.detach().clone().requires_grad_()
        return leaves[name].clone()  # a network may change its input in place, but never a leaf

    return changed(batch, follow), leaves
