"""``python -m hpctrain.train.memory``: measure the memory of a training step without a GPU and without the data.

The real network and the real step run on fake tensors, which have shapes and sizes but no bytes, and every storage is
counted when it is made and when it is freed. So the result includes weights, gradients, AdamW's moments, the moving
average, activations kept for the backward pass, and temporaries, at any batch size and precision, in about a second.

The program reads a resolved profile as JSON from stdin and writes one line of JSON, a
:class:`~hpctrain.profile.memory.Measurement`. :mod:`hpctrain.profile.memory` runs it as a subprocess and adds the
memory that only a real device needs (context, workspaces, fragmentation).
"""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.errors import DataError
from hpctrain.families import build_model
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.plausible import inspect_spectra
from hpctrain.kinds.spectra.transform import augment
from hpctrain.profile.files import matching_files
from hpctrain.profile.inspection import Inspection
from hpctrain.profile.memory import Measurement
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import DataSection, Profile
from hpctrain.samples.split import TRAIN, assign_split, choose_rows
from hpctrain.train.freeze import freeze
from hpctrain.train.pacing import FullSpeed
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule
from hpctrain.train.step import UpdateStep

GIB = 2.0**30

DESI_GRID = SpectraFacts(7781, (3600.0, 9824.0), 0.0, 4.0, 6712.0)
"""Facts that are assumed where there are no data yet: the DESI grid, and quasars up to redshift 4."""

_BATCH_SIZES = (64, 512)
"""Batch sizes at which memory is measured; with fake tensors a large batch costs no more time than a small one."""


class PeakMemory(TorchDispatchMode):
    """Count the bytes of all live storages, fake or real, that were made while it is active.

    Unlike ``torch.distributed._tools.mem_tracker`` it needs no hooks in modules and optimisers, and one public class
    of torch instead of a private one; the two agree to a per cent (tests/unit/train/test_memory.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.alive_bytes += size
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


class _FakeUpdate(UpdateStep):
    """The step on batches that are normalised already: fake numbers do not give the width of a window."""

    def _prepare(self, batch: SpectraBatch, step: int, micro: int) -> SpectraBatch:
        return augment(batch, self._data.augment)


def measure_peak_bytes(profile: Profile, facts: SpectraFacts, batch_size: int) -> tuple[int, int]:
    """Run two steps on fake tensors.

    Parameters
    ----------
    profile : Profile
    facts : SpectraFacts
        Facts that give the sizes of the network and the batch.
    batch_size : int
        Spectra of a micro-batch, instead of the profile's.

    Returns
    -------
    peak : int
        Largest number of bytes in use at a time.
    num_parameters : int
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
    alone = profile.model_copy(update={"train": train, "launch": launch})
    with FakeTensorMode(), PeakMemory() as memory:
        model = build_model(alone.model, facts)
        if train.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        freeze(model, train.freeze)
        parameters = [p for p in model.parameters() if p.requires_grad]
        averaged = None if train.ema_decay is None else [p.detach().clone() for p in parameters]
        update = _FakeUpdate(
            World(),
            Schedule(alone, 1_000_000),
            facts.num_pixels,
            alone.data,
            train,
            model,
            _Moments(parameters),
            LossScale(train.precision, torch.device("cpu")),
            averaged,
            StopRequest(),
            FullSpeed(),
        )
        for step in range(2):
            update(step, _fake_batches(facts, batch_size))
    return memory.peak_bytes, sum(p.numel() for p in parameters)


def _fake_batches(facts: SpectraFacts, batch_size: int) -> Iterator[SpectraBatch]:
    shape = (batch_size, facts.num_pixels)
    while True:
        yield SpectraBatch(
            flux=torch.ones(shape),
            ivar=torch.ones(shape),
            wavelength_aa=torch.linspace(*facts.wavelength_aa, facts.num_pixels),
            redshift=torch.zeros(batch_size),
            target_id=torch.zeros(batch_size, dtype=torch.int64),
            row=torch.zeros(batch_size, dtype=torch.int64),
            norm=torch.ones(batch_size),
            window=torch.zeros(batch_size, dtype=torch.int8),
            num_bad=torch.zeros(batch_size, dtype=torch.int32),
            has_weight=torch.ones(batch_size, dtype=torch.bool),
        )


def measure(profile: Profile) -> Measurement:
    """Return the memory model of a profile, with grid and redshifts from the data where they exist."""
    return measure_with(profile, look_at_data(profile.data))


def measure_with(profile: Profile, data: DataLook) -> Measurement:
    """Return the memory model of a profile whose data have been read."""
    small, large = (measure_peak_bytes(profile, data.facts, size)[0] for size in _BATCH_SIZES)
    floor, num_parameters = measure_peak_bytes(profile, data.facts, 1)
    slope = (large - small) / (_BATCH_SIZES[1] - _BATCH_SIZES[0])
    return Measurement(
        fixed_gib=(small - slope * _BATCH_SIZES[0]) / GIB,
        per_spectrum_gib=slope / GIB,
        floor_gib=floor / GIB,
        weights_gib=4 * num_parameters / GIB,
        num_parameters=num_parameters,
        num_pixels=data.facts.num_pixels,
        facts_from=data.facts_from,
        num_spectra=data.num_spectra,
        num_train=data.num_train,
        data_problem=data.problem,
        inspection=data.inspection,
    )


@dataclass(frozen=True)
class DataLook:
    """The facts about the data, or assumptions where there are no data.

    Parameters
    ----------
    facts : SpectraFacts
    facts_from : str
        Source of the facts.
    num_spectra, num_train : int or None
        Number of all spectra, and of those on the training side of the split.
    problem : str or None
        Why the files cannot be used.
    inspection : Inspection or None
        Findings in a sample of the training spectra.
    """

    facts: SpectraFacts
    facts_from: str
    num_spectra: int | None = None
    num_train: int | None = None
    problem: str | None = None
    inspection: Inspection | None = None


def look_at_data(data: DataSection) -> DataLook:
    """Read the facts from the files of ``data.files``; assume DESI's grid where there are none yet."""
    assumed = _assumed(data)
    if any(map(is_remote, data.files)) or not any(matching_files(pattern) for pattern in data.files):
        return assumed
    try:
        spectra = open_spectra(data)
        try:
            rows = np.flatnonzero(assign_split(spectra.target_id, data.split) == TRAIN)
            rows = choose_rows(spectra.target_id, rows, data.max_spectra, data.split.salt)
            found = inspect_spectra(spectra, rows, data) if len(rows) else None
            if not spectra.has_redshift.any():
                return replace(assumed, num_spectra=len(spectra), num_train=len(rows), inspection=found)
            facts = SpectraFacts.from_spectra(spectra, np.arange(len(spectra)))
            return DataLook(facts, "the data", len(spectra), len(rows), inspection=found)
        finally:
            spectra.close()
    except DataError as error:
        return replace(assumed, num_spectra=None, num_train=None, problem=str(error))


def _assumed(data: DataSection) -> DataLook:
    if data.simulate is None:
        return DataLook(DESI_GRID, "the DESI grid and redshifts up to 4")
    num_spectra, split = data.simulate.num_spectra, data.split
    num_train = round(num_spectra * (1 - split.validation - split.test))
    num_train = min(num_train, data.max_spectra or num_train)
    facts = replace(DESI_GRID, num_pixels=data.simulate.num_pixels or DESI_GRID.num_pixels)
    return DataLook(facts, f"{facts.num_pixels} simulated pixels and redshifts up to 4", num_spectra, num_train)


def main() -> None:
    """Read a profile from stdin and write its measurement to stdout."""
    torch.set_num_threads(1)
    profile = Profile.model_validate_json(sys.stdin.read())
    print(json.dumps(measure(profile).to_json()))


if __name__ == "__main__":
    main()
