"""Run directories as the launcher and the trainer leave them, with times and readings that a test chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.monitor.ledger import Ledger
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.rundir import RunDir, write_json

HOUR = 3600.0
BEGAN = 1.79e9
SITE = """\
partitions:
  gpu: {gpus_per_node: 4, platform: a100-40}
  small: {gpus_per_node: 4, platform: t4}
  cpu: {gpus_per_node: 0}
default_partition: gpu
prices:
  date: 2026-11-01
  partitions:
    gpu: {gpu_hour: 2.0, spot_gpu_hour: 0.8, interruptions_per_hour: 0.1}
    small: {gpu_hour: 0.4}
    cpu: {core_hour: 0.02}
  instance_types:
    ml.g5.xlarge: {node_hour: 1.4}
carbon_g_per_kwh: 400
"""


def values(folder: Path, **launch: Any) -> dict[str, Any]:
    """Return the plain values of a profile on the site that `SITE` describes."""
    launch = {"site": "here", "cluster": "slurm", "gpus_per_node": 4, "runs_dir": str(folder / "runs"), **launch}
    return {
        "name": "tiny",
        "launch": launch,
        "data": {"files": [str(folder / "spectra.h5")]},
        "train": {"batch_size": 64, "epochs": 10},
    }


def write_site(folder: Path, text: str = SITE) -> None:
    (folder / "here.yaml").write_text(text)


def make_run(folder: Path, number: int = 1, **launch: Any) -> RunDir:
    """Submit a run on paper, an hour before its first attempt begins."""
    run = RunDir.create(folder / "runs", "tiny", f"20261126-1200{number:02d}-{number:04x}")
    run.make_folders()
    run.profile.write_text(dump_profile(load_profile(values(folder, **launch))))
    write_json(run.job, {"run_id": run.run_id, "cluster": "slurm", "submitted_at": BEGAN - HOUR, "submissions": []})
    return run


def begin(run: RunDir, attempt: int, at: float, ranks: int = 4) -> None:
    facts = {"attempt": attempt, "started_at": at, "world_size": ranks, "num_nodes": 1, "job_id": str(attempt)}
    write_json(run.attempts / f"{attempt:06d}.json", facts)


def record(run: RunDir, kind: str, step: int, at: float, attempt: int, **facts: Any) -> None:
    line = {"kind": kind, "step": step, "time": at, "attempt": attempt, **facts}
    with run.metrics.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def train(run: RunDir, attempt: int, at: float, steps: range, step_s: float, start_s: float = 60.0) -> float:
    """Let an attempt do its steps, the first of them `start_s` after its start; return the time of the last one."""
    begin(run, attempt, at)
    first = {"event": "started", "start_step": steps.start, "total_steps": 1000, "device": "NVIDIA A100-SXM4-40GB"}
    record(run, "event", steps.start, at + 1, attempt, **first)
    record(run, "event", steps.start, at + 2, attempt, event="data", num_spectra=6400, num_train=6400)
    record(run, "event", steps.start + 1, at + start_s, attempt, event="first_step", seconds=start_s)
    for step in steps:
        record(run, "train", step + 1, at + start_s + (step - steps.start) * step_s, attempt, loss=1.0)
    return at + start_s + (len(steps) - 1) * step_s


def end(run: RunDir, attempt: int, at: float, code: int, followed: str) -> None:
    append_history(run, EndedAttempt(at, str(attempt), 0, code, "none", "none", followed))


def measure(run: RunDir, attempt: int, seconds: float, utilisation: float, joules: float, ranks: int = 4) -> None:
    for rank in range(ranks):
        sums = {"energy_j": joules, "by_source_j": {"gpu": joules}, "measured_s": seconds, "unmeasured_s": 0.0}
        Ledger(run, rank, attempt, "n1").write(1, {"gpu_utilisation_percent": utilisation}, sums, 10.0)


def interrupted_run(folder: Path) -> RunDir:
    """Return a run whose first attempt is killed after 40 steps of a minute, and saved the last time after 30."""
    run = make_run(folder)
    last = train(run, 1, BEGAN, range(40), 60.0)
    measure(run, 1, 1800.0, 31.0, 0.9 * HOUR * 250)
    end(run, 1, last + 60, 137, "requeued")
    again = last + 660
    record(run, "event", 30, again + 1, 2, event="resumed", checkpoint="step-00000030", steps_lost=10)
    last = train(run, 2, again, range(30, 60), 60.0)
    measure(run, 2, 1800.0, 31.0, 0.9 * HOUR * 250)
    record(run, "event", 60, last, 2, event="finished", seconds=1.0, sha256="ab", check_max_difference=0, best_step=60)
    end(run, 2, last, 0, "finished")
    return run
