"""Does a run on the device survive being killed? Real attempts in processes of their own, compared bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.gpu.rows import Row, check, guarded, skip, within
from benchmarks.gpu.workload import Size, precisions, prepare_run
from benchmarks.ranks import python_path, start_ranks
from hpctrain.errors import EXIT_FINISHED, EXIT_REQUEUE
from hpctrain.rundir import RunDir

_FEATURES: dict[str, dict[str, Any]] = {
    "fp32": {"ema_decay": 0.99},
    "tf32": {"gradient_checkpointing": True},
    "bf16": {"accumulation": 2},
    "fp16": {"ema_decay": 0.99, "accumulation": 2, "gradient_checkpointing": True},
}
"""What is switched on in the run of each precision, so that all of it is resumed."""

_ATTEMPT_S = 240
_ELASTIC_DIFFERENCE = 1e-3


def rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Run all checks side by side, because none of them is timed, and yield their rows."""
    if torch.cuda.is_available() and torch.cuda.device_count() < 2:
        yield skip("two ranks on two GPUs over NCCL", "this machine has one GPU")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as beside:
        place = Path(folder)
        looks = [(f"{name}: resume", _resumes, name, 1) for name in precisions(device)]
        looks += [("two ranks on one device: resume", _resumes, "fp32", 2), ("1, 2, 1 ranks", _elastic)]
        found = [
            beside.submit(lambda what, look, *rest: list(guarded(what, look, place, device, size, *rest)), *each)
            for each in looks
        ]
        for future in found:
            yield from future.result()


def _resumes(place: Path, device: torch.device, size: Size, precision: str, ranks: int) -> Iterator[Row]:
    """Let ``hpctrain verify-resume`` kill and resume a run."""
    folder = place / f"{precision}-{ranks}"
    run = _small_run(folder, device, size, ranks, precision=precision, **_FEATURES[precision])
    command = ["verify-resume", str(run.profile), "--kills", str(size.kills), "--steps", str(size.kill_steps), "--json"]
    done = _hpctrain([*command, "--ranks", str(ranks)], folder)
    what = f"{precision}, {ranks} rank{'s' if ranks > 1 else ''}: killed and resumed, the same bits"
    if done.returncode not in (0, 5):
        yield check(what, False, f"exit code {done.returncode}: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
        return
    found = json.loads(done.stdout)
    cuts = ", ".join(f"{cut['how']} in {cut['phase']}" for cut in found["cuts"])
    yield check(what, done.returncode == 0, f"{len(found['cuts'])} interruptions: {cuts}")


def _small_run(folder: Path, device: torch.device, size: Size, ranks: int, **train: Any) -> RunDir:
    folder.mkdir(parents=True)
    pixels = min(512, size.num_pixels)
    return prepare_run(
        folder,
        "small",
        device,
        min(1000, size.num_spectra),
        pixels,
        launch={"ranks_per_node": ranks, "cpus_per_rank": 1},
        model={"latent_size": 4, "dropout": 0.1},
        data={"reader_threads": 1},
        train={"batch_size": 16, "warmup_steps": 2, "log_every_steps": 1, "epochs": 1000, **train},
    )


def _hpctrain(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpctrain", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=2 * _ATTEMPT_S,
    )


def _elastic(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Train with one rank, then two on the same device, then one; compare with a run that never stopped."""
    runs = []
    shape = {"global_batch": 32, "max_steps": size.kill_steps, "ema_decay": 0.9}
    for name, worlds in (("straight", (1,)), ("elastic", (1, 2, 1))):
        run = _small_run(place / name, device, size, 1, **shape)
        for index, world_size in enumerate(worlds):
            _set_ranks(run, world_size)
            last = index + 1 == len(worlds)
            code = _attempt(run, world_size, None if last else (index + 1) * size.kill_steps // len(worlds))
            if code != (EXIT_FINISHED if last else EXIT_REQUEUE):
                yield check(f"{worlds} ranks", False, f"attempt {index + 1} ended with exit code {code}: {_tail(run)}")
                return
        runs.append(run)
    losses = [np.array([record["loss"] for record in run.read_metrics("train")]) for run in runs]
    same = len(losses[0]) == len(losses[1])
    worst = float(np.abs(losses[1] / losses[0] - 1).max()) if same else float("inf")
    what = "1, 2, 1 ranks against one rank: losses of all steps"
    yield within(what, worst, _ELASTIC_DIFFERENCE, f"differ by {worst:.1e} at most, relative; {len(losses[1])} steps")


def _set_ranks(run: RunDir, ranks: int) -> None:
    profile = yaml.safe_load(run.profile.read_text())
    profile["launch"]["ranks_per_node"] = ranks
    run.profile.write_text(yaml.safe_dump(profile))


def _attempt(run: RunDir, ranks: int, stop_at: int | None) -> int:
    """Run one attempt, with SIGTERM to all ranks once a step is recorded; return the exit code of rank 0."""
    processes = start_ranks(["-m", "hpctrain.train", str(run.path)], ranks, quiet=True)
    deadline = time.monotonic() + _ATTEMPT_S
    try:
        while processes[0].poll() is None and time.monotonic() < deadline:
            steps = [record["step"] for record in run.read_metrics("train")] if stop_at is not None else []
            if stop_at is not None and max(steps, default=0) >= stop_at:
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                stop_at = None
            time.sleep(0.01)
        return processes[0].wait(max(1.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _tail(run: RunDir) -> str:
    logs = sorted(run.logs.glob("*.log"))
    return " | ".join(logs[-1].read_text(errors="replace").splitlines()[-3:]) if logs else "no log"
