"""Compare the memory that a profile needs with the memory of the device.

The measurement needs torch (:mod:`hpctrain.train.memory`, about three seconds), and a check must stay light. A
subprocess therefore measures, and ``~/.cache/hpctrain`` keeps the result under a key of everything that it depends on.
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
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.train import MAX_BATCH_SIZE
from hpctrain.rundir import write_atomic

WORKSPACE_GIB = 0.07
"""Scratch memory of cuBLAS, measured on an H100 with torch 2.11 (benchmarks/gpu)."""

FRAGMENTATION = 1.12
"""Ratio of the memory that torch's allocator holds to what the tensors need at the peak: 1.08 to 1.14 with expandable
segments over three networks, two precisions and batches of 64 to 2,048 on an H100 (benchmarks/gpu)."""

HOST_PROCESS_GIB = 0.6
"""Host memory of a rank without its tensors: interpreter and torch."""

COMFORTABLE = 0.95
"""Largest share of the card's memory that a plan may use; other processes and evaluations need the rest."""

NEARLY_EMPTY = 0.05
"""Share of the card's memory below which the check suggests a larger batch."""

_TIMEOUT_S = 180
_SILENT_S = 2.0
"""Time after which the command prints that it waits for the estimate [s]."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measurement:
    """The results of :mod:`hpctrain.train.memory` for a profile.

    Parameters
    ----------
    fixed_gib, per_sample_gib, floor_gib, weights_gib : float
        Peak of a rank is ``max(floor, fixed + per_sample * batch_size)`` [GiB]; weights alone, float32.
    num_parameters : int
    bytes_per_sample : int
        Memory of one sample as it is read [byte].
    facts_from : str
        Source of the facts that size the model.
    num_samples, num_train : int or None
        Number of samples of the data, and of those to train on; None if the data do not exist.
    data_problem : str or None
        Reason why the files cannot be used.
    inspection : Inspection or None
        Findings in a sample of the training spectra.
    flop_per_sample, made_bytes_per_sample : float
        Work of one sample, forwards and backwards: floating-point operations of matrix products and convolutions, and
        size of the tensors that are made [byte]; 0 if it was not counted.
    kernels_per_pass : float
        Number of operations of one micro-batch of any size.
    """

    fixed_gib: float
    per_sample_gib: float
    floor_gib: float
    weights_gib: float
    num_parameters: int
    bytes_per_sample: int
    facts_from: str
    num_samples: int | None = None
    num_train: int | None = None
    data_problem: str | None = None
    inspection: Inspection | None = None
    flop_per_sample: float = 0.0
    made_bytes_per_sample: float = 0.0
    kernels_per_pass: float = 0.0

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
    """Memory that the ranks of one device need, and the memory that the device has.

    Parameters
    ----------
    measurement : Measurement
    profile : Profile
    platform : Platform
    available_gib : float
        Memory that the ranks of one device can use together [GiB].
    ranks : int
        Ranks that share the device.
    """

    measurement: Measurement
    profile: Profile
    platform: Platform
    available_gib: float
    ranks: int

    def needed_gib(self, batch_size: int) -> float:
        """Return the memory that the ranks of one device need at a batch size, allowances included [GiB]."""
        found = self.measurement
        peak = FRAGMENTATION * max(found.floor_gib, found.fixed_gib + found.per_sample_gib * batch_size)
        if self.profile.launch.world_size > 1:
            peak += found.weights_gib  # DDP's buckets for the gradients
        if self.platform.is_gpu:
            peak += CUDA_CONTEXT_GIB + WORKSPACE_GIB
        if self.platform.is_unified or not self.platform.is_gpu:
            # Host and device share the memory: add the process, the checkpoint's copy and the prefetched batches.
            ahead = prefetched_gib(self.profile.data.prefetch_batches, batch_size, found.bytes_per_sample)
            peak += HOST_PROCESS_GIB + 3 * found.weights_gib + ahead
        return peak * self.ranks

    @property
    def share(self) -> float:
        """Share of the device's memory that the profile's batch needs."""
        return self.needed_gib(self.batch_size) / self.available_gib

    @property
    def batch_size(self) -> int:
        """The profile's batch size; for ``auto``, the one that the first attempt will probably find."""
        return self.profile.update_shape.micro_batch or (self.best_batch() or (1, 1))[0]

    @property
    def fits(self) -> bool:
        return self.share <= 1.0

    def best_batch(self) -> tuple[int, int] | None:
        """Return the largest batch size that fits, and the accumulation that keeps the global batch."""
        per_rank = self.profile.global_batch // self.profile.launch.world_size
        for batch_size in divisors_from_above(per_rank):
            if batch_size <= MAX_BATCH_SIZE and self.needed_gib(batch_size) <= COMFORTABLE * self.available_gib:
                return batch_size, per_rank // batch_size
        return None

    def complaint(self) -> str | None:
        """Return the message that the batch does not fit and which one would; None if it fits."""
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
        """Return the message that the card is nearly empty and which batch would use it better; None if it is not."""
        if self.share >= NEARLY_EMPTY or self.platform.is_unified or self.profile.launch.gpus_per_node == 0:
            return None  # on a board, free memory is not wasted: the system and the cameras need it
        found = f"{self.batch_size} uses {self.share:.0%} of {self.platform.title} (memory)"
        best = self.best_batch()
        if best is not None and best[0] > self.batch_size:
            return (
                f"{found}; batch_size {best[0]} with accumulation {best[1]} gives the same global batch in fewer passes"
            )
        return f"{found}; a larger batch_size, or fewer GPUs, would use it better"


def measure(profile: Profile, silent_s: float = _SILENT_S, timeout_s: float = _TIMEOUT_S) -> Measurement:
    """Return the memory model of a profile and the size of its data, from the cache if nothing has changed.

    Parameters
    ----------
    profile : Profile
    silent_s : float
        A line on stderr says what the command waits for if the estimate takes longer [s].
    timeout_s : float
        From then on, the longest time that the estimate may take [s].

    Raises
    ------
    HpctrainError
        The measurement failed, or took too long.
    """
    if (known := remembered(profile)) is not None:
        return known
    path = cache_folder() / f"{measurement_key(profile)}.json"
    measurement = _run(profile, silent_s, timeout_s)
    with contextlib.suppress(OSError):  # with a read-only home, the next check only takes three seconds more
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(measurement.to_json()))
    return measurement


def remembered(profile: Profile) -> Measurement | None:
    """Return what :func:`measure` has found before, from its cache; None if it has not measured this profile."""
    path = cache_folder() / f"{measurement_key(profile)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # absent, incomplete, or of another version
        return Measurement.from_json(json.loads(path.read_text(encoding="utf-8")))
    return None


def _run(profile: Profile, silent_s: float, timeout_s: float) -> Measurement:
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        text = profile.model_dump_json(exclude_unset=True)
        code, output, errors = _wait_for_estimate(environment, text, silent_s, timeout_s)
    except subprocess.TimeoutExpired:
        raise HpctrainError(f"the memory estimate took more than {timeout_s:g} s; is this machine busy?") from None
    except OSError as error:
        raise HpctrainError(f"the memory estimate did not run: {error}") from error
    if code != 0:
        last = (errors.strip().splitlines() or [f"exit code {code}"])[-1]
        raise HpctrainError(f"the memory estimate failed: {last}")
    return Measurement.from_json(json.loads(output.splitlines()[-1]))


def _wait_for_estimate(
    environment: dict[str, str], text: str, silent_s: float, timeout_s: float
) -> tuple[int, str, str]:
    """Run the estimate and return its exit code, output and errors. Print a note if it takes a while."""
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
                output, errors = process.communicate(text, timeout=silent_s)
            except subprocess.TimeoutExpired:
                note = "estimating the memory of a step and inspecting the spectra (--no-memory skips it) ..."
                print(note, file=sys.stderr, flush=True)
                output, errors = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
        return process.returncode, output, errors


def cache_folder() -> Path:
    """Return the folder that keeps the measurements; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "hpctrain" / "memory"


def measurement_key(profile: Profile) -> str:
    """Return a hash of everything that the result depends on: keys of the profile, data, code, torch version."""
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
    for folder in ("samples", "kinds", "families", "train"):
        yield from (_PACKAGE / folder).rglob("*.py")


def _torch_stamp() -> list[str]:
    """Return the version of the installed torch without importing it; the import would take longer than the rest."""
    folders = (Path(entry) for entry in sys.path if entry)
    return sorted(path.name for folder in folders for path in folder.glob("torch-*.dist-info"))


def prefetched_gib(prefetch_batches: int, batch_size: int, bytes_per_sample: int) -> float:
    """Return the host memory of the batches that one rank prefetches [GiB].

    Each of the ``data.prefetch_batches`` counts twice. An evaluation prefetches as many batches of its own while those
    of the training wait, and the buffers of the evaluation are then kept for the next one.
    """
    return 2 * prefetch_batches * batch_size * bytes_per_sample / 2**30


def divisors_from_above(number: int) -> list[int]:
    """Return the divisors of a number, largest first: the batch sizes from which accumulation can make it."""
    low = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*low, *(number // divisor for divisor in low)}, reverse=True)
