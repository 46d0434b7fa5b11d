"""What all faulted runs share: their profile and spectra, how long a test waits for them, and the queue they are in."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from slurm_cluster import SlurmCluster

from hpctrain.profile.families import profile_of
from hpctrain.profile.schema import Profile

NUM_STEPS = 200
"""Enough for the faults of a chain, which come late on a busy machine; a step takes 20 ms."""
CHECKPOINT_EVERY = 20
PATIENCE_S = 420
"""How long a fault waits while no run of the lab gives a sign of life: many at once may be slow, and are not stuck."""


def write_spectra(path: Path) -> None:
    rng = np.random.default_rng(1)
    wavelength_aa = np.linspace(3600, 9000, 256)
    flux = 5 + np.sin(wavelength_aa / 300) * rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 256))
    with h5py.File(path, "w") as file:
        file["wavelength"] = wavelength_aa
        file["flux"] = flux.astype("f4")
        file["ivar"] = np.full(flux.shape, 1 / 0.09, "f4")
        file["target_id"] = np.arange(200)
        file["redshift"] = rng.uniform(0.05, 0.3, 200).astype("f4")


def profile(folder: Path, name: str, **changes: dict[str, Any]) -> Profile:
    """Return a profile of two ranks on two nodes with all that makes a resume hard: dropout, accumulation, averages."""
    sections: dict[str, dict[str, Any]] = {
        "launch": {
            "nodes": 2, "ranks_per_node": 1, "gpus_per_node": 0, "cpus_per_rank": 1, "time_limit": "00:10:00",
            "signal_lead_s": 10, "runs_dir": str(folder / "runs"), "sbatch": {"exclusive": True},
        },
        "data": {
            "files": [str(folder / "spectra.h5")], "reader_threads": 1, "columns": {"mask": None},
            "split": {"validation": 0.2}, "augment": {"noise": 0.1},
        },
        "model": {
            "latent_size": 2, "encoder_channels": [8, 8], "encoder_kernels": [3, 5], "encoder_hidden": [8],
            "decoder_hidden": [8], "rest_pixels": 300, "dropout": 0.1,
        },
        "train": {
            "batch_size": 4, "epochs": 10000, "max_steps": NUM_STEPS, "accumulation": 2, "log_every_steps": 1,
            "warmup_steps": 2, "device": "cpu", "evaluate_every_steps": 10, "ema_decay": 0.9,
        },
        "checkpoint": {"every_steps": CHECKPOINT_EVERY},
        "track": {"tensorboard": False},
        "monitor": {"heartbeat_s": 0.5},
    }  # fmt: skip
    for section, values in changes.items():
        sections[section] = {**sections[section], **values}
    return profile_of({"name": name, **sections})


def wait_until(condition: Callable[[], object], runs_dir: Path, what: str, pause_s: float) -> None:
    """Wait until ``condition()`` is true, as long as runs in `runs_dir` make progress; ask every `pause_s` seconds.

    Raises
    ------
    AssertionError
        Nothing was written by any of them for `PATIENCE_S` seconds.
    """
    seen, deadline = 0.0, time.monotonic() + PATIENCE_S
    while not condition():
        time.sleep(pause_s)
        if time.monotonic() > deadline:
            paths = [*runs_dir.glob("*/*/metrics.jsonl"), *runs_dir.glob("*/*/attempts")]
            newest = max((path.stat().st_mtime for path in paths), default=0.0)
            assert newest > seen, f"no run gave a sign of life for {PATIENCE_S} s: {what}"
            seen, deadline = newest, time.monotonic() + PATIENCE_S


class Queue:
    """The states of all jobs of a cluster; it is asked once a second, however many threads wait for a job."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._asked_at = float("-inf")

    def state(self, job: str) -> str:
        """Return the state of a job; empty if Slurm does not know the job or does not answer."""
        with self._lock:
            if time.monotonic() > self._asked_at + 1.0:
                said = self._cluster.run(["scontrol", "show", "job", "-o"], check=False).stdout
                self._states = dict(re.findall(r"^JobId=(\S+) .*?\bJobState=(\S+)", said, re.MULTILINE))
                self._asked_at = time.monotonic()
            return self._states.get(job, "")
