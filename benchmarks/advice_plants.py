"""Suffering from outside, planted into the records of a real run: heat, lost nodes, full disks, NCCL, the queue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.metrics.events import (
    CheckpointFailed,
    CheckpointRejected,
    CheckpointSaved,
    DataFound,
    Diverged,
    Failed,
    FirstStep,
    GpuMissing,
    MemoryShort,
    MirrorFailed,
    RecordsLost,
    Resumed,
    StageFellBack,
)
from hpctrain.metrics.record import MetricsWriter
from hpctrain.rundir import RunDir, note_bad_nodes, write_json

Plant = Callable[[RunDir], None]
ENDS = ("finished", "stopped", "failed")


def unfinished(run: RunDir) -> list[dict[str, Any]]:
    """Take the events of the end away, so that the run looks as if it had been lost; return its records."""
    records = [record for record in run.read_metrics() if record.get("event") not in ENDS]
    write(run, records)
    return records


def write(run: RunDir, records: list[dict[str, Any]]) -> None:
    """Replace the records of a run."""
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))


def stretch(run: RunDir, factor: float = 1000.0, **changes: Any) -> None:
    """Let the run take `factor` times as long, at the same share of everything; change its training records."""
    records = list(run.read_metrics())
    begin = min(record["time"] for record in records)
    for record in records:
        record["time"] = begin + (record["time"] - begin) * factor
        if record["kind"] == "train":
            record["samples_per_s"] /= factor
            record |= changes
    write(run, records)


def tell(run: RunDir, *events: Any) -> None:
    """Let the trainer's writer record events at the end of the newest attempt."""
    records = list(run.read_metrics())
    writer = MetricsWriter(run, max(run.newest_attempt(), 1))
    for event in events:
        writer.event(event, max(record["step"] for record in records))
    writer.close()


def log(run: RunDir, *lines: str) -> None:
    """Let a run that has not ended have these lines in the log of a rank."""
    unfinished(run)
    run.logs.mkdir(exist_ok=True)
    (run.logs / "job-77.0-rank-0003.log").write_text("\n".join(["training", *lines, ""]))


def logged(line: str) -> Plant:
    """Return what plants a line into the log of a rank."""
    return lambda run: log(run, line)


def told(*events: Any, ended: bool = True) -> Plant:
    """Return what plants events at the end of a run; with `ended` its last attempt ended without its own last words."""

    def plant(run: RunDir) -> None:
        if ended:
            unfinished(run)
        tell(run, *events)

    return plant


def set_keys(run: RunDir, **keys: Any) -> None:
    """Change keys of the profile; two underscores stand for the dot."""
    profile = yaml.safe_load(run.profile.read_text())
    for key, value in keys.items():
        section, _, name = key.partition("__")
        profile.setdefault(section, {})[name] = value
    run.profile.write_text(yaml.safe_dump(profile))


def sensors(run: RunDir, ranks: list[dict[str, float]], rested_s: float = 0.0) -> None:
    """Write the measurements of the sensors of as many ranks, each on a node of its own."""
    stretch(run)
    run.monitor.mkdir(exist_ok=True)
    for number, statistics in enumerate(ranks):
        sums = {"host": f"n{number}", "energy_j": None, "by_source_j": {}, "measured_s": 3600.0,
                "unmeasured_s": 0.0, "rested_s": rested_s, **statistics}  # fmt: skip
        record = {"rank": number, "host": f"n{number}", "attempt": 1, "time": time.time(), "step": 5,
                  "interval_s": 5.0, "values": {}, "absent": {}, "attempts": {"1": sums}, "events": []}  # fmt: skip
        write_json(run.monitor_file(number), record)


def leases(run: RunDir, hosts: list[str], codes: list[int], followed: str = "requeued", gap_s: float = 5.0) -> None:
    """Write attempts on these nodes, one after the other, and how they ended."""
    unfinished(run)
    (run.attempts / "ended.tsv").unlink(missing_ok=True)
    at = time.time() - 80000
    for number, (host, code) in enumerate(zip(hosts, codes, strict=True), start=1):
        lease = {"attempt": number, "job_id": "77", "restart_count": number - 1, "hosts": host, "started_at": at,
                 "world_size": 1}  # fmt: skip
        write_json(run.attempts / f"{number:04d}.json", lease)
        append_history(run, EndedAttempt(at + 60, "77", number - 1, code, "none", "none", followed))
        at += 60 + gap_s
    records = list(run.read_metrics())
    for record in records:
        if record.get("event") == "started":
            record["hosts"] = hosts[0]
    write(run, records)


def _no_torch(run: RunDir) -> None:
    write(run, [])
    log(run, "ModuleNotFoundError: No module named 'torch'")


def _waits_for_data(run: RunDir) -> None:
    stretch(run, data_wait_share=0.6)


def _waits_for_peers(run: RunDir) -> None:
    sensors(run, [{}] * 3)
    records = list(run.read_metrics())
    for record in records:
        if record["kind"] == "train":
            record |= {"exchange_share": 0.02, "peer_wait_share": 0.4, "slowest_rank": 2}
    write(run, records)


def _host_is_slow(run: RunDir) -> None:
    run.traces.mkdir()
    found = {"asked": [10, 19], "rank": 0, "first_step": 10, "last_step": 19, "seconds": 0.1, "kernels": [],
             "parts": {"loader": 0.001, "forward": 0.04, "backward": 0.05}, "device_name": "NVIDIA H100",
             "device": {"busy_s": 0.04, "idle_share": 0.6, "nccl_s": 0.0, "nccl_alone_s": 0.0, "to_device_s": 0.001,
                        "other_copies_s": 0.0, "parts": {"forward": 0.02, "backward": 0.02}}}  # fmt: skip
    write_json(run.trace_files(0)[1], found)


def _idle(run: RunDir) -> None:
    sensors(run, [{"mean_gpu_utilisation_percent": 12.0}])


def _saves_too_often(run: RunDir) -> None:
    stretch(run)
    seconds = [record["time"] for record in run.read_metrics()]
    part = 0.3 * (max(seconds) - min(seconds))
    tell(run, CheckpointSaved(path="step-00000010", seconds=part, blocked_s=part, bytes=10**6))


def _evaluates_too_often(run: RunDir) -> None:
    stretch(run)
    records = list(run.read_metrics())
    for record in records:
        if record["kind"] == "train":
            record["samples_per_s"] *= 4
    write(run, records)


def _filled(run: RunDir) -> None:
    unfinished(run)
    error = "[Errno 28] No space left on device: 'checkpoints/step-00000010'"
    tell(run, CheckpointFailed(error=error), RecordsLost(records=12))


def _spiky(run: RunDir) -> None:
    records = list(run.read_metrics())
    train = [record for record in records if record["kind"] == "train"]
    for index in range(len(train) // 3, len(train), max(3, len(train) // 7)):
        train[index]["loss"] = 30 * max(abs(train[index]["loss"]), 0.1)
    write(run, records)


def _overflows(run: RunDir) -> None:
    set_keys(run, train__precision="fp16")
    records = list(run.read_metrics())
    train = [record for record in records if record["kind"] == "train"]
    for index, record in enumerate(train):
        record["skipped"] = float(index % 4 == 0)
    write(run, records)


def _gradient(factor: Callable[[float], float]) -> Plant:
    def plant(run: RunDir) -> None:
        records = list(run.read_metrics())
        train = [record for record in records if record["kind"] == "train"]
        for index, record in enumerate(train):
            record["grad_norm"] = factor(index / len(train))
        write(run, records)

    return plant


def _node_fails(run: RunDir) -> None:
    unfinished(run)
    for _ in range(3):
        note_bad_nodes(run, ["n17"], "77", "killed")


def _queue(run: RunDir) -> None:
    leases(run, ["n1", "n2", "n3"], [75, 75, 75], gap_s=20000.0)


def _warned(run: RunDir) -> None:
    found = DataFound(counts={"num_spectra": 300}, num_train=200, num_validation=100, notes=[],
                      warnings=["the median of the values is 1e-17: are they in other units?"])  # fmt: skip
    tell(run, found)


def _rejected(run: RunDir) -> None:
    counts = {"num_spectra": 300, "num_rejected": 150, "num_inspected": 256}
    tell(run, DataFound(counts=counts, num_train=200, num_validation=100, notes=[], warnings=[]))


def _killed_for_memory(run: RunDir) -> None:
    leases(run, ["n1"], [137])
    tell(run, MemoryShort(reason="2 % of 64 GiB are available"))


def _starts_slowly(run: RunDir) -> None:
    stretch(run)
    set_keys(run, train__compile=True)
    seconds = [record["time"] for record in run.read_metrics()]
    tell(run, FirstStep(seconds=max(seconds) - min(seconds), of={"compile": 500.0, "torch": 3.0}))


def _lost(run: RunDir) -> None:
    steps = max(record["step"] for record in run.read_metrics())
    tell(run, Resumed(checkpoint="step-00000010", steps_lost=max(50, steps)))


_NO_MEMORY = (
    "train.batch_size: 512 does not fit into NVIDIA A100: this rank held 38.2 of 39.4 GiB; batch_size 256 with "
    "accumulation 2 gives the same global batch"
)
PLANTS: dict[str, tuple[str, Plant]] = {
    "gpu-memory": ("gpu-out-of-memory", told(Failed(error=_NO_MEMORY, exit_code=2))),
    "gpu-memory-log": ("gpu-out-of-memory", logged("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")),
    "host-memory": ("host-out-of-memory", logged("slurmstepd: error: Detected 1 oom_kill event in StepId=77.0")),
    "host-memory-short": ("host-out-of-memory", _killed_for_memory),
    "no-gpu": ("no-gpu", told(GpuMissing(gpus_per_node=4, reason="torch is built without CUDA"), ended=False)),
    "disk": ("full-disk", _filled),
    "quota": ("full-disk", logged("OSError: [Errno 122] Disk quota exceeded: 'metrics.jsonl'")),
    "module": ("wrong-software", _no_torch),
    "diverged": ("diverged", told(Diverged(quantity="loss", objects=[7], batch=[7, 8, 9]))),
    "given-up": ("no-progress", lambda run: leases(run, ["n1", "n2", "n3"], [1, 1, 1], "no-progress")),
    "bad-node": ("failing-node", _node_fails),
    "one-node": ("attempts-end-on-one-node", lambda run: leases(run, ["n1", "n9", "n2", "n9"], [75, 76, 75, 137])),
    "xid": ("broken-hardware", logged("NVRM: Xid (PCI:0000:07:00): 79, GPU has fallen off the bus.")),
    "nccl": ("nccl-error", logged("DistBackendError: NCCL error: unhandled system error, ncclSystemError")),
    "nccl-timeout": ("nccl-error", logged("[Rank 3] Watchdog caught collective operation timeout: WorkNCCL")),
    "network": ("network-error", logged("RuntimeError: connect to n1:29500: No route to host")),
    "stale": ("file-system-error", logged("OSError: [Errno 116] Stale file handle: 'spectra.h5'")),
    "time": ("time-limit-hits", logged("slurmstepd: error: *** JOB 77 ON n1 CANCELLED DUE TO TIME LIMIT ***")),
    "hangs": ("lost-ranks", lambda run: leases(run, ["n1", "n1", "n1"], [76, 76, 75])),
    "damaged": ("damaged-checkpoints", told(CheckpointRejected(path="step-00000010", reason="SHA-256"), ended=False)),
    "mirror": ("mirror-fails", told(MirrorFailed(error="403 Forbidden"), ended=False)),
    "warned": ("doubtful-data", _warned),
    "rejected": ("samples-without-weight", _rejected),
    "spiky": ("spiky-loss", _spiky),
    "fp16": ("half-precision-fails", _overflows),
    "dead": ("dead-gradient", _gradient(lambda share: 1e-9 if share > 0.3 else 1.0)),
    "exploding": ("exploding-gradient", _gradient(lambda share: 10.0 ** (8 * share))),
    "data": ("waiting-for-data", _waits_for_data),
    "idle": ("idle-gpu", _idle),
    "saves": ("waiting-for-checkpoints", _saves_too_often),
    "evaluations": ("waiting-for-evaluations", _evaluates_too_often),
    "heat": ("throttled-by-heat", lambda run: sensors(run, [{"mean_gpu_throttled_by_heat": 0.4}] * 2)),
    "slow-node": ("slow-peer", lambda run: sensors(run, [{"mean_gpu_throttled_by_heat": x} for x in (0, 0, 0.8, 0)])),
    "peers": ("waiting-for-peers", _waits_for_peers),
    "host": ("gpu-waits-for-host", _host_is_slow),
    "rests": ("pauses-to-cool", lambda run: sensors(run, [{}], rested_s=900.0)),
    "start": ("slow-start", _starts_slowly),
    "again": ("steps-done-again", _lost),
    "staging": ("staging-failed", told(StageFellBack(node="n3", reason="12 GiB are free, 40 are needed"), ended=False)),
    "queue": ("long-waits", _queue),
}  # fmt: skip
"""Name, the rule that should find it, and what the plant does to a copy of a real run."""


def plant_of(name: str, run: RunDir) -> str:
    """Plant one kind of suffering into a run; return the name of the rule that should find it."""
    expected, plant = PLANTS[name]
    plant(run)
    return expected


def copy_of(run: RunDir, folder: Path) -> RunDir:
    """Return a copy of a run without its tensors."""
    import shutil

    copy = RunDir(folder / run.name / run.run_id)
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("*.safetensors"))
    return copy
