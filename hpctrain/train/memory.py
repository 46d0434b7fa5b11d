"""``python -m hpctrain.train.memory``: measure the memory of a training step without a GPU and without the data.

The real network and the real step run on fake tensors, which have shapes and sizes but no bytes, and every storage is
counted when it is made and when it is freed. So the result includes weights, gradients, AdamW's moments, the moving
average, activations kept for the backward pass, and temporaries, at any batch size and precision, in about a second.

The program reads a resolved profile as JSON from stdin and writes one line of JSON, a
:class:`~hpctrain.profile.memory.Measurement`. :mod:`hpctrain.profile.memory` runs it as a subprocess and adds the
memory that only a real device needs (context, workspaces, fragmentation).
"""

from __future__ import annotations

import itertools
import json
import sys
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.errors import DataError
from hpctrain.kinds.kind import Kind
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.files import matching_files
from hpctrain.profile.inspection import Inspection
from hpctrain.profile.memory import Measurement
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.data import DataSection
from hpctrain.profile.sections.model import ModelSection
from hpctrain.samples.labels import has_any_label
from hpctrain.samples.oversample import oversampled
from hpctrain.samples.protocols import Facts
from hpctrain.samples.replay import replayed
from hpctrain.samples.split import TRAIN, assign_split, choose_rows
from hpctrain.train.freeze import freeze
from hpctrain.train.pacing import FullSpeed
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule
from hpctrain.train.step import UpdateStep

GIB = 2.0**30

_BATCH_SIZES = (64, 512)
"""Batch sizes at which memory is measured; with fake tensors a large batch costs no more time than a small one."""


class PeakMemory(TorchDispatchMode):
    """Count the bytes of all live storages, fake or real, that were made while it is active, and the work done.

    The work is that of matrix products and convolutions (`num_flop`), the bytes of all new tensors (`made_bytes`) and
    the operations that made some (`num_kernels`).

    Unlike ``torch.distributed._tools.mem_tracker`` it needs no hooks in modules and optimisers, and one public class
    of torch instead of a private one; the two agree to a per cent (tests/unit/train/test_memory.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive_bytes = 0
        self.peak_bytes = 0
        self.made_bytes = 0
        self.num_flop = 0
        self.num_kernels = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = self.made_bytes
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        self.num_kernels += self.made_bytes > made  # a view makes no tensor, and starts no kernel
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.num_flop += count(*args, **(kwargs or {}), out_val=result)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.alive_bytes += size
        self.made_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive_bytes -= size


class _Moments:
    """A substitute for fused AdamW, which keeps two moments per weight and makes no temporaries."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.state = [torch.zeros_like(p) for p in parameters for _ in range(2)]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, learning_rate: float, found_nonfinite: torch.Tensor) -> None:
        """Do nothing: an update in place takes no memory beyond the moments."""


@dataclass(frozen=True)
class Work:
    """What one pass of a micro-batch does, forwards and backwards.

    Parameters
    ----------
    flop : float
        Floating-point operations of matrix products and convolutions.
    made_bytes : float
        Size of all tensors that are made [byte].
    kernels : float
        Number of operations that make a tensor.
    """

    flop: float
    made_bytes: float
    kernels: float


def measure_peak_bytes(
    profile: Profile, facts: Facts, batch_size: int, section: ModelSection | None = None
) -> tuple[int, int]:
    """Run two steps on fake tensors, and return the peak of the memory and the size of the network.

    The parameters are those of :func:`measure_step`.

    Parameters
    ----------
    profile : Profile
    facts : Facts
    batch_size : int
    section : ModelSection, optional

    Returns
    -------
    peak : int
        Largest number of bytes in use at a time.
    num_parameters : int
    """
    return measure_step(profile, facts, batch_size, section)[:2]


def measure_step(
    profile: Profile, facts: Facts, batch_size: int, section: ModelSection | None = None
) -> tuple[int, int, Work]:
    """Run two steps on fake tensors.

    Parameters
    ----------
    profile : Profile
    facts : Facts
        Facts that give the sizes of the network and the batch.
    batch_size : int
        Samples of a micro-batch, instead of the profile's.
    section : ModelSection, optional
        The settled section of the model; that of the profile by default.

    Returns
    -------
    peak : int
        Largest number of bytes in use at a time.
    num_parameters : int
    work : Work
    """
    train = profile.train.model_copy(
        update={
            "batch_size": batch_size,
            "accumulation": min(2, profile.accumulation),
            "global_batch": None,
            "compile": False,
        }
    )
    launch = profile.launch.model_copy(update={"nodes": 1, "gpus_per_node": 0, "ranks_per_node": 1})
    alone, kind = profile.model_copy(update={"train": train, "launch": launch}), kind_of(profile)
    with FakeTensorMode(), PeakMemory() as memory:
        model = family_of(alone).network(section or alone.model, facts)
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        freeze(model, train.freeze)
        parameters = [p for p in model.parameters() if p.requires_grad]
        averaged = None if train.ema_decay is None else [p.detach().clone() for p in parameters]
        update = UpdateStep(
            World(),
            Schedule(alone, 1_000_000),
            train,
            model,
            _Moments(parameters),
            LossScale(train.precision, torch.device("cpu")),
            averaged,
            StopRequest(),
            FullSpeed(),
            lambda batch: batch,  # fake numbers are prepared already: they do not give the width of a window
            kind.augmentation(alone.data),
            kind,
        )
        for step in range(2):
            update(step, (kind.fake(facts, batch_size) for _ in itertools.count()))
    passes = 2 * train.accumulation
    work = Work(memory.num_flop / passes, memory.made_bytes / passes, memory.num_kernels / passes)
    return memory.peak_bytes, sum(p.numel() for p in parameters), work


def measure(profile: Profile) -> Measurement:
    """Return the memory model of a profile, with the facts of the data where they exist."""
    return measure_with(profile, look_at_data(profile))


def measure_with(profile: Profile, data: DataLook) -> Measurement:
    """Return the memory model of a profile whose data have been read."""
    found = {
        "facts_from": data.facts_from,
        "num_samples": data.num_samples,
        "num_train": data.num_train,
        "data_problem": data.problem,
        "inspection": data.inspection,
    }
    kind = kind_of(profile)
    if data.facts is None or family_of(profile).how == "rounds" or kind.fake(data.facts, 1) is None:
        size = 0 if data.facts is None else kind.bytes_per_sample(data.facts)
        return Measurement(0.0, size / GIB, 0.0, 0.0, 0, size, **found)
    (small, _, little), (large, _, much) = (
        measure_step(profile, data.facts, size, data.section) for size in _BATCH_SIZES
    )
    more = _BATCH_SIZES[1] - _BATCH_SIZES[0]
    floor, num_parameters = measure_peak_bytes(profile, data.facts, 1, data.section)
    slope = (large - small) / more
    return Measurement(
        fixed_gib=(small - slope * _BATCH_SIZES[0]) / GIB,
        per_sample_gib=slope / GIB,
        floor_gib=floor / GIB,
        weights_gib=4 * num_parameters / GIB,
        num_parameters=num_parameters,
        bytes_per_sample=kind.bytes_per_sample(data.facts),
        flop_per_sample=(much.flop - little.flop) / more,
        made_bytes_per_sample=(much.made_bytes - little.made_bytes) / more,
        kernels_per_pass=little.kernels,
        **found,
    )


@dataclass(frozen=True)
class DataLook:
    """The facts about the data, or assumptions where there are no data.

    Parameters
    ----------
    facts : Facts or None
        None if they are unknown.
    facts_from : str
        Source of the facts.
    num_samples, num_train : int or None
        Number of all samples, and of those on the training side of the split.
    problem : str or None
        Why the files cannot be used.
    inspection : Inspection or None
        Findings in a sample of the training rows.
    section : ModelSection or None
        Section of the model with the values that depend on the data; None without data.
    """

    facts: Facts | None
    facts_from: str
    num_samples: int | None = None
    num_train: int | None = None
    problem: str | None = None
    inspection: Inspection | None = None
    section: ModelSection | None = None


def look_at_data(profile: Profile) -> DataLook:
    """Read the facts from the files of ``data.files``; assume some where there are no files yet."""
    data, kind = profile.data, kind_of(profile)
    assumed = _assumed(kind, data)
    if any(map(is_remote, data.files)) or not any(matching_files(pattern) for pattern in data.files):
        return assumed
    try:
        samples = kind.open(data)
        try:
            rows = np.flatnonzero(assign_split(samples.target_id, data.split, samples.column) == TRAIN)
            rows = replayed(samples.target_id, rows, data)
            rows = choose_rows(samples.target_id, rows, data.max_samples, data.split.salt)
            found = kind.inspect(samples, rows, data) if len(rows) else None
            everything = np.arange(len(samples))
            if not samples.usable(everything).any():
                return replace(assumed, num_samples=len(samples), num_train=len(rows), inspection=found)
            facts, family = kind.facts(samples, everything), family_of(profile)
            section = family.settle(profile.model, samples, rows) if len(rows) else profile.model
            labels = family.labels(section, samples)
            rows = oversampled(samples, rows[has_any_label(labels, rows)] if labels else rows, data)
            return DataLook(facts, "the data", len(samples), len(rows), inspection=found, section=section)
        finally:
            samples.close()
    except DataError as error:
        return replace(assumed, num_samples=None, num_train=None, problem=str(error))


def _assumed(kind: Kind, data: DataSection) -> DataLook:
    assumed, split = kind.assumed(data), data.split
    if assumed.num_samples is None:
        return DataLook(assumed.facts, assumed.source)
    num_train = round(assumed.num_samples * (1 - split.held_out))
    num_train = min(num_train, data.max_samples or num_train)
    return DataLook(assumed.facts, assumed.source, assumed.num_samples, num_train)


def main() -> None:
    """Read a profile from stdin and write its measurement to stdout."""
    torch.set_num_threads(1)
    profile = profile_of(json.loads(sys.stdin.read()))
    print(json.dumps(measure(profile).to_json()))


if __name__ == "__main__":
    main()
