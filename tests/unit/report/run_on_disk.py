"""A run directory as the trainer leaves it, made without training: data for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from hpctrain.monitor.ledger import Ledger
from hpctrain.rundir import RunDir, write_json

START = 1_795_000_000.0
TOTAL_STEPS = 18_000
PROFILE = """\
name: desi_vae
description: Quasars of DESI's early data, ten latents
platform: a100-40
launch:
  nodes: 1
  gpus_per_node: 4
  time_limit: '02:00:00'  # of one attempt
data:
  files:
  - /data/desi/<script>alert("x")</script>.h5
train:
  batch_size: 128
  learning_rate: 0.001
  precision: fp16
"""
SCRIPT = "#!/bin/bash\n#SBATCH --job-name=desi_vae\n# one attempt\nsrun python -m hpctrain.train run\n"


class Recorder:
    """Write records with times of our choosing, in the trainer's format."""

    def __init__(self, run: RunDir, attempt: int, started_at: float) -> None:
        self.run, self.attempt, self.time = run, attempt, started_at
        lease = {"attempt": attempt, "started_at": started_at, "job_id": "4711", "world_size": 4}
        lease |= {"restart_count": attempt - 1, "hosts": ["gpu-node-07"]}
        write_json(run.attempts / f"{attempt:04d}.json", lease)

    def write(self, kind: str, step: int, **fields: object) -> None:
        record = {"kind": kind, "step": step, "time": self.time, "attempt": self.attempt, **fields}
        with open(self.run.metrics, "a", encoding="ascii") as stream:
            stream.write(json.dumps(record) + "\n")

    def event(self, name: str, step: int, **fields: object) -> None:
        self.write("event", step, event=name, **fields)


def loss_at(step: int, rng: np.random.Generator, scatter: float = 0.02) -> float:
    return (
        0.512
        + 2.2 * np.exp(-step / 500)
        + 0.25 * np.exp(-step / 4000)
        + scatter * rng.normal() * (0.2 + np.exp(-step / 3000))
    )


def sensors_at(step: int, rng: np.random.Generator) -> dict[str, object]:
    """Return what an A100 may tell, which is warm between steps 5,000 and 6,000."""
    is_warm = 5000 < step <= 6000
    return {
        "gpu_utilisation_percent": 96.0 + rng.normal(), "gpu_power_w": (280.0 if is_warm else 341.0) + 5 * rng.normal(),
        "gpu_temperature_c": (83.0 if is_warm else 66.0) + 0.4 * rng.normal(), "gpu_memory_used_gib": 12.7,
        "gpu_memory_total_gib": 40.0, "gpu_throttled_by_heat": 0.0, "gpu_throttled_by_power": float(is_warm),
        "cpu_utilisation_percent": 21.0 + rng.normal(), "memory_available_gib": 402.0, "process_memory_gib": 6.1,
        "pace": "warm" if is_warm else "ok", "duty": 0.8 if is_warm else 1.0,
    }  # fmt: skip


def write_ledgers(run: RunDir, num_ranks: int = 4, num_attempts: int = 3) -> None:
    """Write what the sensors of each rank have told, as the sampler does; rank 3 has no power reading."""
    rng = np.random.default_rng(5)
    for rank in range(num_ranks):
        for attempt in range(1, num_attempts + 1):
            ledger = Ledger(run, rank, attempt, f"gpu-node-0{7 + rank // 2}")
            values = {name: value for name, value in sensors_at(100, rng).items() if rank < 3 or name != "gpu_power_w"}
            ledger.absent = {} if rank < 3 else {"gpu_power_w": "NVML: <Not Supported>"}
            energy_j = 900_000.0 if rank < 3 else None
            by_source_j = {"gpu": 700_000.0, "cpu_package_0": 200_000.0} if rank < 3 else {}
            sums = {"energy_j": energy_j, "by_source_j": by_source_j, "measured_s": 2700.0, "rested_s": 75.0}
            ledger.write(7200, values, {**sums, "unmeasured_s": 30.0}, 5.0)


def record_training(
    recorder: Recorder, first: int, last: int, every: int = 10, resumed: int | None = None, lost: int = 0
) -> None:
    """Write the records of one attempt from step `first` to `last`."""
    rng = np.random.default_rng(first)
    if resumed is not None:
        recorder.time += 8.0
        recorder.event("resumed", resumed, checkpoint=f"checkpoints/step-{resumed:08d}", steps_lost=lost)
    recorder.time += 6.0
    recorder.event(
        "started", first, job_id="4711", restart_count=0, world_size=4, device="NVIDIA A100-SXM4-40GB",
        hosts="gpu-node-07", start_step=first, total_steps=TOTAL_STEPS, num_parameters=13_490_000,
    )  # fmt: skip
    recorder.event("data", first, num_spectra=96_000, num_train=86_300, num_validation=9_700)
    for step in range(first + every, last + 1, every):
        recorder.time += 0.62 * every / 2.0
        rate = 412 * 4 * (1 + 0.04 * rng.normal()) * (0.55 if step % 1000 < every else 1.0)
        recorder.write(
            "train", step, loss=loss_at(step, rng), chi2=2 * loss_at(step, rng) - 0.02, kl=18.0,
            lr=1e-3 * min(1, step / 500) * 0.5 * (1 + np.cos(np.pi * step / TOTAL_STEPS)),
            grad_norm=float(np.exp(rng.normal() * 0.35) * (0.3 + 3 * np.exp(-step / 800))), samples_seen=step * 1024,
            samples_per_s=rate, epoch=step / 180, memory_gib=11.4,
        )  # fmt: skip
        if step % 50 == 0:
            recorder.write("monitor", step, **sensors_at(step, rng))
        if step % 1000 == 0:
            recorder.time += 4.0
            loss = loss_at(step, rng, 0.004) + 0.006 + 8e-7 * step
            recorder.write(
                "eval", step, loss=loss, chi2=2 * loss - 0.013, kl=17.0 + step / 9000, num_spectra=9_700, seconds=4.0
            )
            recorder.event(
                "checkpoint", step, path=f"checkpoints/step-{step:08d}", seconds=0.9, bytes=162_000_000, blocked_s=0.02
            )


def make_spectra(num_spectra: int, num_pixels: int, seed: int = 3) -> dict[str, np.ndarray]:
    """Return quasars with noise, in the format of ``results/reconstructions.npz``."""
    rng = np.random.default_rng(seed)
    wavelength_aa = np.linspace(3600.0, 9824.0, num_pixels)
    redshift = rng.uniform(0.4, 3.1, num_spectra)
    lines = (
        (1215.7, 4.0, 18),
        (1549.1, 1.6, 16),
        (1908.7, 0.9, 22),
        (2799.1, 0.9, 20),
        (4862.7, 0.7, 25),
        (5008.2, 0.8, 4),
        (6564.6, 2.4, 30),
    )
    model = np.empty((num_spectra, num_pixels))
    for row, z in enumerate(redshift):
        rest = wavelength_aa / (1 + z)
        model[row] = (rest / 2600) ** rng.uniform(-1.7, -0.7)
        for centre, height, width in lines:
            model[row] += (
                height * rng.uniform(0.4, 1.3) * np.exp(-0.5 * ((rest - centre) / width) ** 2) * (2600 / centre) ** 0.6
            )
    sky = 1 + 3 * (rng.random(num_pixels) > 0.985) + 1.5 * (wavelength_aa > 8300) * rng.random(num_pixels)
    ivar = np.broadcast_to(1 / (0.32 * sky) ** 2, model.shape).copy()
    ivar[:, num_pixels // 3 : num_pixels // 3 + num_pixels // 90] = 0
    flux = np.where(ivar > 0, model + rng.normal(size=model.shape) / np.sqrt(np.where(ivar > 0, ivar, 1)), 0)
    flux[0, num_pixels // 2] += 9
    return {
        "wavelength_aa": wavelength_aa.astype(np.float32), "flux": flux.astype(np.float32),
        "ivar": ivar.astype(np.float32),
        "reconstruction": (model * (1 + 0.01 * np.sin(wavelength_aa / 300))).astype(np.float32),
        "covered": np.broadcast_to(wavelength_aa > 3680, model.shape).copy(), "redshift": redshift.astype(np.float32),
        "target_id": 39627835576420141 + 977 * np.arange(num_spectra), "chi2": np.ones(num_spectra, np.float32),
        "norm": np.full(num_spectra, 3.2, np.float32), "step": np.int64(TOTAL_STEPS),
    }  # fmt: skip


def write_results(run: RunDir, num_spectra: int = 4, num_pixels: int = 7781) -> None:
    run.results.mkdir(exist_ok=True)
    np.savez(run.results / "reconstructions.npz", **make_spectra(num_spectra, num_pixels))
    anomalies = make_spectra(3, num_pixels, seed=8)
    anomalies["flux"][:, num_pixels // 2 : num_pixels // 2 + num_pixels // 25] *= 2.2
    np.savez(run.results / "anomalies.npz", **anomalies, anomaly_score=np.array([-0.21, -0.17, -0.11], np.float32))
    rng = np.random.default_rng(4)
    redshift = rng.gamma(4, 0.42, 9700).astype(np.float32)
    latents = rng.normal(size=(9700, 10)) * np.linspace(2, 0.4, 10) + np.outer(redshift, np.sin(np.arange(10)))
    latents[:40] *= 3
    latents[100:120] = np.nan
    with h5py.File(run.results / "latents.h5", "w") as file:
        file["LATENT_VEC"], file["redshift"] = latents.astype(np.float16), redshift
        file["RECON_MSE"] = rng.normal(1.02, 0.035, 9700).astype(np.float32) + 0.2 * (rng.random(9700) > 0.97)
        file["ANOMALY_SCORE"] = (0.12 - 0.02 * np.abs(np.nan_to_num(latents)).sum(1) / 5).astype(np.float32)
        file["target_id"] = np.arange(9700)


def write_submission(run: RunDir) -> None:
    run.make_folders()
    run.profile.write_text(PROFILE, encoding="utf-8")
    run.script.write_text(SCRIPT, encoding="utf-8")
    job = {
        "run_id": run.run_id,
        "name": "desi_vae",
        "cluster": "slurm",
        "submitted_at": START - 1300,
        "submissions": [],
    }
    write_json(run.job, job | {"command": ["hpc-submit", "profiles/desi_vae.yaml"]})
    git = {
        "commit": "7b1e6f3a9d0c4c52",
        "branch": "main",
        "dirty": True,
        "diff": "--- a/x\n+++ b/x <b>\n",
        "untracked": [],
    }
    provenance = {
        "command": ["hpc-submit", "profiles/desi_vae.yaml"], "user": "astro", "host": "login1", "python": "3.11.7",
        "hpctrain": "0.1.0", "packages": {"torch": "2.13.0", "numpy": "2.3.1"}, "code": {"path": "/sw", "git": git},
        "data": [{"path": "/data/desi/qso.h5", "bytes": 6_100_000_000, "modified": START}],
    }  # fmt: skip
    write_json(run.provenance, provenance)


def write_run(folder: Path, results: bool = True, every: int = 10) -> RunDir:
    """Write a finished run of three attempts: one requeued at its time limit, one killed, one that finished."""
    run = RunDir(folder / "desi_vae" / "20261117-101640-7f3a")
    write_submission(run)
    first = Recorder(run, 1, START)
    record_training(first, 0, 7200, every)
    reason = "GPU 83.1 °C; monitor.thermal_limit_c 80 °C"
    first.event("pace", 5050, level="warm", before="ok", reason=reason)
    first.event("stop_requested", 7200, cause="SIGUSR2")
    first.event("checkpoint", 7200, path="checkpoints/step-00007200", seconds=0.9, bytes=162_000_000, blocked_s=0.9)
    first.event("stopped", 7200, cause="SIGUSR2, the time limit", exit_code=75)
    second = Recorder(run, 2, first.time + 1500)
    record_training(second, 7200, 12_000, every, resumed=7200)
    with open(run.superseded_metrics, "w", encoding="ascii") as stream:
        for step in range(12_010, 12_410, every):
            second.time += 3.1 * every / 10
            stream.write(
                json.dumps({"kind": "train", "step": step, "time": second.time, "attempt": 2, "loss": 0.53}) + "\n"
            )
    write_ledgers(run)
    third = Recorder(run, 3, second.time + 420)
    third.event(
        "checkpoint_rejected", 12_000, path="checkpoints/step-00012400", reason="model.safetensors: SHA-256 differs"
    )
    record_training(third, 12_000, TOTAL_STEPS, every, resumed=12_000, lost=400)
    with open(run.attempts / "ended.tsv", "w", encoding="ascii") as stream:
        stream.write(f"{first.time + 2:.0f}\t4711\t0\t75\tnone\tstep-00007200\trequeued\n")
        stream.write(f"{second.time + 2:.0f}\t4711\t1\t137\tstep-00007200\tstep-00012000\trequeued\n")
    third.time += 20
    third.event("finished", TOTAL_STEPS, seconds=1900.0, sha256="9f" * 32)
    if results:
        write_results(run)
    return run
