"""``train.batch_size: auto``: find the largest micro-batch that fits, once per run.

Random numbers are seeded by micro-batch, so its size must never change within a run. Rank 0 writes the number into the
run's ``profile.yaml`` before the first step, and later attempts find that number instead of ``auto``. The global batch
is fixed by the profile, so the size changes speed and memory; the result changes only as with another random seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch

from hpctrain.distributed.group import gather_json
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.errors import Problem, ProfileError
from hpctrain.metrics.events import BatchSizeFound
from hpctrain.monitor.available import available_memory_bytes
from hpctrain.profile.families import kind_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.memory import FRAGMENTATION, WORKSPACE_GIB, divisors_from_above, prefetched_gib
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.train import MAX_BATCH_SIZE
from hpctrain.rundir import write_atomic
from hpctrain.train.build import build_network, build_optimizer
from hpctrain.train.memory import GIB, DataLook, measure_with
from hpctrain.train.pacing import FullSpeed
from hpctrain.train.run import Data, Rank
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule
from hpctrain.train.step import UpdateStep

SHARE = 0.85
"""Share of the free memory that the batch may use; evaluations, other processes and the page cache need the rest."""


def settle_batch_size(rank: Rank, profile: Profile, data: Data) -> Profile:
    """Find a batch size that fits on every rank, write it into the run's profile and return that profile.

    Parameters
    ----------
    rank : Rank
        Its metrics receive the event ``batch_size``.
    profile : Profile
        Profile with ``train.batch_size: auto``.
    data : Data

    Raises
    ------
    ProfileError
        Even a single sample does not fit.
    """
    world, device = rank.world, rank.device
    per_rank = profile.global_batch // world.world_size
    candidates = [size for size in divisors_from_above(per_rank) if size <= MAX_BATCH_SIZE]
    ranks_here = profile.launch.ranks_per_gpu if device.type == "cuda" else world.local_world_size
    free_bytes = _free_bytes(device) // ranks_here
    needed_bytes = _need(profile, device, data)
    size = largest_fitting(candidates, lambda size: needed_bytes(size) <= SHARE * free_bytes)
    if size is not None and device.type == "cuda":
        below = [candidate for candidate in candidates if candidate <= size]
        size = largest_fitting(below, lambda size: _runs(_with_micro_batch(profile, size), device, data))
    found = gather_json(world, size)
    if None in found:
        message = (
            f"auto found no size that fits: one {kind_of(profile).words.one} needs {needed_bytes(1) / GIB:.1f} GiB, "
            f"but only {free_bytes / GIB:.1f} GiB are free on {device}; use a smaller model or "
            "train.gradient_checkpointing"
        )
        raise ProfileError(str(rank.directory.profile), [Problem("train.batch_size", message)])
    settled = _with_micro_batch(profile, min(found))
    if world.is_main:
        write_atomic(rank.directory.profile, dump_profile(settled))
    if rank.metrics is not None:
        event = BatchSizeFound(
            batch_size=settled.train.batch_size,
            accumulation=settled.train.accumulation,
            needed_gib=round(needed_bytes(min(found)) / GIB, 3),
            free_gib=round(free_bytes / GIB, 3),
        )
        text = rank.metrics.event(event, 0).describe(kind_of(profile).words)
        print(f"hpctrain: {text}", file=sys.stderr, flush=True)
    return settled


def _need(profile: Profile, device: torch.device, data: Data) -> Callable[[int], int]:
    """Return a function that returns the memory of a batch size on a device [byte]."""
    need = measure_with(profile, DataLook(data.facts, "the data"))
    fixed, floor = need.fixed_gib + WORKSPACE_GIB, need.floor_gib + WORKSPACE_GIB

    def needed_bytes(size: int) -> int:
        ahead = 0.0
        if device.type != "cuda" or _is_unified(device):  # prefetched batches are in the same memory
            ahead = prefetched_gib(profile.data.prefetch_batches, size, need.bytes_per_sample)
        return int(GIB * (FRAGMENTATION * max(floor, fixed + need.per_sample_gib * size) + ahead))

    return needed_bytes


def _with_micro_batch(profile: Profile, micro_batch: int) -> Profile:
    return profile.with_update_shape(profile.update_shape.with_micro_batch(micro_batch))


def largest_fitting(candidates: list[int], fits: Callable[[int], bool]) -> int | None:
    """Return the first of the candidates, largest first, that fits; None where none does."""
    return next((size for size in candidates if fits(size)), None)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda" and not _is_unified(device):
        return torch.cuda.mem_get_info(device)[0]
    # Where CPU and GPU share memory, CUDA counts the page cache as used, although the kernel would free it on demand.
    return available_memory_bytes() or 2**62


def _is_unified(device: torch.device) -> bool:
    return device.type == "cuda" and bool(getattr(torch.cuda.get_device_properties(device), "is_integrated", False))


def _runs(profile: Profile, device: torch.device, data: Data) -> bool:
    """Run one step on padding rows, exactly as the run will, and discard it; return False if it runs out of memory."""
    alone = profile.model_copy(
        update={
            "train": profile.train.model_copy(update={"compile": False, "accumulation": min(2, profile.accumulation)}),
            "launch": profile.launch.model_copy(update={"nodes": 1, "gpus_per_node": 1, "ranks_per_node": 1}),
        }
    )
    kind = kind_of(profile)
    try:
        model = build_network(alone, data.section, data.facts, device)
        optimizer = build_optimizer(model, alone.train)
        update = UpdateStep(
            World(),
            Schedule(alone, alone.global_batch),
            alone.train,
            model,
            optimizer,
            LossScale(alone.train.precision, device),
            None,
            StopRequest(),
            FullSpeed(),
            kind.preparation(alone.data.card_entries),
            kind.augmentation(alone.data),
            kind,
            weight_per_sample=float(getattr(model, "weight_per_sample", 1.0)),
        )
        rows = np.full(alone.train.batch_size, -1, dtype=np.int64)
        update(0, (data.samples.read(rows) for _ in range(alone.accumulation)))
        torch.cuda.synchronize(device)
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        model = optimizer = update = None  # drop the references first: the cache frees only tensors without any
        torch.cuda.empty_cache()
    return True
