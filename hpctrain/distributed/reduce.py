"""Sums over ranks, numerators and denominators separately, which are divided last; and tensors of rank 0 for all."""

from __future__ import annotations

import torch
import torch.distributed as dist

from hpctrain.distributed.world import World


def start_sum(world: World, values: torch.Tensor) -> dist.Work | None:
    """Begin to sum `values` in place over all ranks; wait on the returned work, if there is one, before reading."""
    if world.world_size == 1:
        return None
    return dist.all_reduce(values, async_op=True)


def sum_over_ranks(world: World, values: torch.Tensor) -> torch.Tensor:
    """Sum `values` in place over all ranks and return it."""
    work = start_sum(world, values)
    if work is not None:
        work.wait()
    return values


def broadcast_tensors(world: World, tensors: list[torch.Tensor]) -> None:
    """Overwrite `tensors` on all ranks with those of rank 0."""
    if world.world_size == 1:
        return
    for tensor in tensors:
        dist.broadcast(tensor, 0)
