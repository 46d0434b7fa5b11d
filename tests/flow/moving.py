"""A run that moves from platform to platform: the smallest profile that does, and the steps of a move."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from families import TINY, profile_values
from processes import wait_until

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.rundir import RunDir

TOTAL_STEPS = 240
WEIGHTS = "model/model.safetensors"
_TRAINER = [sys.executable, "-u", "-m", "hpctrain.train"]


def moving_profile(folder: Path) -> dict[str, Any]:
    """Return a profile of two ranks, with its data in a folder."""
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(folder / "data.h5"))
    values["name"] = "moved"
    values["train"] |= {"epochs": 100_000, "max_steps": TOTAL_STEPS, "evaluate_every_steps": 60, "log_every_steps": 1}
    values["checkpoint"] = {"every_steps": 20}
    values["launch"] = {"ranks_per_node": 2, "gpus_per_node": 0, "cpus_per_rank": 1, "signal_lead_s": 1}
    return values


def a_run(folder: Path, profile: dict[str, Any]) -> RunDir:
    """Make the directory of a run, as the launcher does."""
    run = RunDir.create(folder, "moved", "20270115-080000-aaaa")
    run.profile.write_text(yaml.safe_dump(profile))
    job = {
        "trainer": _TRAINER,
        "environment": {"OMP_NUM_THREADS": "1"},
        "world_size": 2,
        "requeue": True,
        "max_attempts": 20,
        "max_attempts_without_progress": 3,
        "submitted_at": time.time(),
        "submissions": [],
    }
    run.job.write_text(json.dumps(job))
    return run


def start(module: str, *words: object, **variables: str) -> subprocess.Popen[bytes]:
    """Start a module with the Python of the tests."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen([sys.executable, "-u", "-m", module, *map(str, words)], env=environment)


def wait_for_step(run: RunDir, step: int) -> None:
    """Wait until the run has done a step."""
    wait_until(lambda: max((item["step"] for item in run.read_metrics("train")), default=0) >= step, run)


def wait_for_steps(run: RunDir, count: int, attempt: int) -> None:
    """Wait until attempts after that number have done some steps; records of earlier ones may come with the run."""

    def done() -> int:
        records = run.read_metrics("train") if run.metrics.exists() else []
        return sum(record["attempt"] > attempt for record in records)

    wait_until(lambda: done() >= count, run)


def stop_after(run: RunDir, step: int, processes: list[subprocess.Popen[bytes]], number: signal.Signals) -> list[int]:
    """Send a signal to processes once the run has done a step; return their exit codes."""
    wait_for_step(run, step)
    for process in processes:
        process.send_signal(number)
    return [process.wait() for process in processes]


def newest(run: RunDir) -> int:
    """Return the step of the newest checkpoint."""
    return list_checkpoints(run)[0][0]
