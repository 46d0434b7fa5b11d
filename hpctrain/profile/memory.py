"""Does it fit the device? The memory model of a profile, measured in a subprocess and remembered, against the card.

The measuring needs torch (:mod:`hpctrain.train.memory`, about three seconds); a check must stay light. So it runs as a
process of its own, and its result is kept in ``~/.cache/hpctrain`` under a key of everything it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import HpctrainError
from hpctrain.profile.files import matching_files
from hpctrain.profile.inspection import Inspection
from hpctrain.profile.platforms import CUDA_CONTEXT_GIB, Platform
from hpctrain.profile.schema import MAX_BATCH_SIZE, Profile
from hpctrain.rundir import write_atomic

WORKSPACE_GIB = 0.3
"""Scratch memory of cuDNN and cuBLAS; 0.1 to 0.5 GiB seen."""

FRAGMENTATION = 1.1
"""The allocator's blocks are larger than what is asked for: 10 to 15 % at the peak."""

HOST_PROCESS_GIB = 0.6
"""A rank without its tensors: interpreter and torch."""

COMFORTABLE = 0.95
"""Share of the card that may be planned with; other processes and later evaluations want some."""

NEARLY_EMPTY = 0.05
"""Below this share of the card the batch is worth a second thought."""

PIXEL_BYTES = 8
"""Flux and inverse variance of a pixel, float32."""

_TIMEOUT_S = 180
_SILENT_S = 2.0
"""After this time the command says what it waits for [s]."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measurement:
    """What :mod:`hpctrain.train.memory` found out about a profile.

    Parameters
    ----------
    fixed_gib, per_spectrum_gib, floor_gib, weights_gib : float
        Peak of a rank is ``max(floor, fixed + per_spectrum * batch_size)`` [GiB]; weights alone, float32.
    num_parameters : int
    num_pixels : int
        Pixels L of a spectrum.
    facts_from : str
        Where grid and redshifts come from.
    num_spectra, num_train : int or None
        Of the data, where they exist.
    data_problem : str or None
        Why the files cannot be used.
    inspection : Inspection or None
        What was found in a sample of the training spectra.
    """

    fixed_gib: float
    per_spectrum_gib: float
    floor_gib: float
    weights_gib: float
    num_parameters: int
    num_pixels: int
    facts_from: str
    num_spectra: int | None = None
    num_train: int | None = None
    data_problem: str | None = None
    inspection: Inspection | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """Read back what :meth:`to_json` returned."""
        found = values["inspection"]
        return cls(**{**values, "inspection": None if found is None else Inspection.from_json(found)})


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of the ranks of one device, against what it has.

    Parameters
    ----------
    measurement : Measurement
    profile : Profile
    platform : Platform
    available_gib : float
        What the ranks of one device can use together [GiB].
    ranks : int
        Ranks that share it.
    """

    measurement: Measurement
    profile: Profile
    platform: Platform
    available_gib: float
    ranks: int

    def needed_gib(self, batch_size: int) -> float:
        """Return what the ranks of one device need at a batch size, allowances included [GiB]."""
        found = self.measurement
        peak = FRAGMENTATION * max(found.floor_gib, found.fixed_gib + found.per_spectrum_gib * batch_size)
        if self.profile.launch.world_size > 1:
            peak += found.weights_gib  # buckets the gradients travel in
        if self.platform.is_gpu:
            peak += CUDA_CONTEXT_GIB + WORKSPACE_GIB
        if self.platform.is_unified or not self.platform.is_gpu:
            # Host and device share the memory: the process, the copy a checkpoint is written from, prefetched batches.
            ahead = prefetched_gib(self.profile.data.prefetch_batches, batch_size, found.num_pixels)
            peak += HOST_PROCESS_GIB + 3 * found.weights_gib + ahead
        return peak * self.ranks

    @property
    def share(self) -> float:
        """Share of the device that the profile's batch takes."""
        return self.needed_gib(self.batch_size) / self.available_gib

    @property
    def batch_size(self) -> int:
        """The profile's, or for ``auto`` the one that is likely to be found."""
        size = self.profile.train.batch_size
        return (self.best_batch() or (1, 1))[0] if size == "auto" else size

    @property
    def fits(self) -> bool:
        return self.share <= 1.0

    def best_batch(self) -> tuple[int, int] | None:
        """Return the largest batch size that fits, with the accumulation that keeps the global batch."""
        per_rank = self.profile.global_batch // self.profile.launch.world_size
        for batch_size in divisors_from_above(per_rank):
            if batch_size <= MAX_BATCH_SIZE and self.needed_gib(batch_size) <= COMFORTABLE * self.available_gib:
                return batch_size, per_rank // batch_size
        return None

    def complaint(self) -> str | None:
        """Say that it does not fit and what would; None where it fits."""
        if self.fits:
            return None
        batch_size = self.batch_size
        found = (
            f"{batch_size} would need {self.needed_gib(batch_size):.1f} of the {self.available_gib:.1f} GiB of "
            f"{self.platform.title}"
        )
        best = self.best_batch()
        if best is None:
            return f"{found}, and even 1 needs {self.needed_gib(1):.1f}; use a smaller model or a larger device"
        accumulation = f"accumulation {best[1]}"
        return f"{found}; batch_size {best[0]} with {accumulation} gives the same global batch and fits"

    def remark(self) -> str | None:
        """Say that the card is nearly empty and what would use it better; None where it is not."""
        if self.share >= NEARLY_EMPTY or self.platform.is_unified or self.profile.launch.gpus_per_node == 0:
            return None  # on a board, memory that is left is no waste: the system and the cameras live there too
        found = f"{self.batch_size} uses {self.share:.0%} of {self.platform.title} (memory)"
        best = self.best_batch()
        if best is not None and best[0] > self.batch_size:
            return (
                f"{found}; batch_size {best[0]} with accumulation {best[1]} gives the same global batch in fewer passes"
            )
        return f"{found}; a larger batch_size, or fewer GPUs, would use it better"


def measure(profile: Profile) -> Measurement:
    """Return the memory model of a profile and the size of its data, from the cache where nothing has changed.

    Raises
    ------
    HpctrainError
        The measuring failed.
    """
    path = _cache_folder() / f"{_key(profile)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # absent, torn, or of another version
        return Measurement.from_json(json.loads(path.read_text(encoding="utf-8")))
    measurement = _run(profile)
    with contextlib.suppress(OSError):  # a read-only home costs three seconds the next time, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(measurement.to_json()))
    return measurement


def _run(profile: Profile) -> Measurement:
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        code, output, errors = _wait_for_estimate(environment, profile.model_dump_json(exclude_unset=True))
    except subprocess.TimeoutExpired:
        raise HpctrainError(f"the memory estimate took more than {_TIMEOUT_S:.0f} s; is this machine busy?") from None
    except OSError as error:
        raise HpctrainError(f"the memory estimate did not run: {error}") from error
    if code != 0:
        last = (errors.strip().splitlines() or [f"exit code {code}"])[-1]
        raise HpctrainError(f"the memory estimate failed: {last}")
    return Measurement.from_json(json.loads(output.splitlines()[-1]))


def _wait_for_estimate(environment: dict[str, str], text: str) -> tuple[int, str, str]:
    """Run the estimate; return its exit code, output and errors. Say that it runs if it takes a while."""
    command = [sys.executable, "-m", "hpctrain.train.memory"]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            try:
                output, errors = process.communicate(text, timeout=_SILENT_S)
            except subprocess.TimeoutExpired:
                note = "estimating the memory of a step and inspecting the spectra (--no-memory skips it) ..."
                print(note, file=sys.stderr, flush=True)
                output, errors = process.communicate(timeout=_TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
        return process.returncode, output, errors


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "hpctrain" / "memory"


def _key(profile: Profile) -> str:
    """Hash everything the result depends on: the profile's part, the data, the code that is run, torch."""
    train = profile.train
    files = [path for pattern in profile.data.files for path in matching_files(pattern)]
    depends_on: dict[str, Any] = {
        "model": profile.model.model_dump(mode="json"),
        "data": profile.data.model_dump(mode="json", exclude={"reader_threads", "prefetch_batches"}),
        "train": [
            train.precision,
            train.gradient_checkpointing,
            train.ema_decay is None,
            profile.accumulation > 1,
            train.freeze,
        ],
        "files": [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        "code": sorted([str(path), path.stat().st_mtime_ns] for path in _code()),
        "python": [sys.executable, _torch_stamp()],
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:32]


def _code() -> Iterator[Path]:
    for folder in ("models", "spectra", "train"):
        yield from (_PACKAGE / folder).glob("*.py")


def _torch_stamp() -> list[str]:
    """Name the installed torch without importing it, which would cost more than all the rest."""
    folders = (Path(entry) for entry in sys.path if entry)
    return sorted(path.name for folder in folders for path in folder.glob("torch-*.dist-info"))


def prefetched_gib(prefetch_batches: int, batch_size: int, num_pixels: int) -> float:
    """Return the host memory of the batches that one rank prefetches [GiB].

    Each of the ``data.prefetch_batches`` counts twice. An evaluation prefetches as many batches of its own while those
    of the training wait, and the buffers of the evaluation are then kept for the next one.
    """
    return 2 * prefetch_batches * batch_size * num_pixels * PIXEL_BYTES / 2**30


def divisors_from_above(number: int) -> list[int]:
    """Return the divisors of a number, largest first: the batch sizes that accumulation can make it of."""
    low = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*low, *(number // divisor for divisor in low)}, reverse=True)
