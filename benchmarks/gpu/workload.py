"""The data, profiles and runs on which the parts work; simulated, so that nothing else is needed."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.ranks import build_here, make_run
from hpctrain.rundir import RunDir
from hpctrain.train.run import Run

NETWORKS: dict[str, dict[str, Any]] = {
    "spectral_vae": {},
    "spectral_vae, convolutional": {"encoder": "convolutional"},
    "spectral_cnn": {"family": "spectral_cnn", "labels": [{"column": "spectype", "kind": "class"}]},
}
"""``model`` sections; everything else has its default."""


_numbers = itertools.count()
"""Run directories are never used twice."""


@dataclass(frozen=True)
class Size:
    """How much the parts do.

    Parameters
    ----------
    num_spectra, num_pixels, batch_size : int
        Of the throughput and of the memory.
    steps, rounds : int
        Steps of a loop, and how often each loop runs.
    steps_compared : int
        Steps of two runs that are compared with each other.
    kills, kill_steps : int
        Interruptions of each resumed run, and its steps.
    stall_mb : int
        State of the checkpoint that is timed [MB].
    memory_batches : tuple of int
        Batch sizes for the estimate of memory.
    starts : int
        Processes that are timed from their start to the first step.
    networks : tuple of str
        Keys of `NETWORKS` for the parts that look at several.
    """

    num_spectra: int
    num_pixels: int
    batch_size: int
    steps: int
    rounds: int
    steps_compared: int
    kills: int
    kill_steps: int
    stall_mb: int
    memory_batches: tuple[int, ...]
    starts: int
    networks: tuple[str, ...] = tuple(NETWORKS)


FULL = Size(8192, 4000, 512, 40, 4, 12, 4, 40, 1000, (64, 512, 2048), 1)
TINY = Size(240, 96, 16, 4, 1, 4, 2, 12, 20, (8, 64), 1, ("spectral_vae", "spectral_cnn"))
SIZES = {"full": FULL, "tiny": TINY}


def precisions(device: torch.device) -> tuple[str, ...]:
    """Return the values of ``train.precision`` that the device has."""
    return ("fp32", "bf16") if device.type == "cpu" else ("fp32", "tf32", "bf16", "fp16")


def prepare_run(
    folder: Path, name: str, device: torch.device, num_spectra: int, num_pixels: int, **sections: Any
) -> RunDir:
    """Make a run directory for one rank on a device; `sections` replace keys of the profile."""
    cores = min(8, len(os.sched_getaffinity(0)))
    launch = {"gpus_per_node": int(device.type == "cuda"), "ranks_per_node": 1, "cpus_per_rank": cores}
    train = {"device": device.type, "epochs": 100_000, "evaluate_every_steps": 10**8}
    data = {"reader_threads": max(1, cores - 1)}
    own = {key: value for key, value in sections.items() if key not in ("launch", "train", "data")}
    return make_run(
        folder,
        f"{name}-{next(_numbers)}",
        num_pixels,
        num_spectra,
        launch={**launch, **sections.get("launch", {})},
        train={**train, **sections.get("train", {})},
        data={**data, **sections.get("data", {})},
        **own,
    )


def open_run(folder: Path, name: str, device: torch.device, size: Size, **sections: Any) -> Run:
    """Build a run in this process: real data, network, optimiser and loader, at step 0."""
    return build_here(prepare_run(folder, name, device, size.num_spectra, size.num_pixels, **sections))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
