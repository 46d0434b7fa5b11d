"""Real runs for benchmarks/advice.py: healthy ones, and ones that the trainer makes with bad settings or bad data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from hpctrain.rundir import RunDir

NUM, NUM_PIXELS = 400, 120
AUTOENCODER = {"latent_size": 3, "encoder_channels": [4, 8], "encoder_kernels": [5, 5], "encoder_hidden": [16],
               "decoder_hidden": [16], "start_simulated": 0}  # fmt: skip
NETWORK = {"family": "spectral_cnn", "channels": [4, 8], "kernels": [5, 5], "regions": 4, "hidden": [16]}


def write_data(path: Path, noise: float = 0.05, num: int = NUM) -> Path:
    """Write spectra of a slope and a line, with both as labels, one label permuted and one constant but for noise."""
    rng = np.random.default_rng(1)
    wavelength = np.linspace(3600.0, 9824.0, NUM_PIXELS)
    redshift = rng.uniform(0.1, 0.5, num)
    slope, line = rng.uniform(-1, 1, num), rng.uniform(0, 3, num)
    rest = wavelength / (1 + redshift[:, None])
    flux = (rest / 5500.0) ** slope[:, None] + line[:, None] * np.exp(-0.5 * ((rest - 5007.0) / 60.0) ** 2)
    flux += noise * rng.normal(size=flux.shape)
    columns = {
        "flux": flux.astype("f4"), "ivar": np.full(flux.shape, noise**-2, "f4"), "wavelength": wavelength,
        "target_id": np.arange(1000, 1000 + num), "redshift": redshift.astype("f4"), "slope": slope.astype("f4"),
        "permuted": rng.permutation(slope).astype("f4"),
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path


def profile_of(data: Path, model: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """Return a small profile that trains well, changed by section."""
    values: dict[str, dict[str, Any]] = {
        "launch": {"gpus_per_node": 0, "cpus_per_rank": 1, "signal_lead_s": 5},
        "data": {"files": [str(data)], "reader_threads": 0, "split": {"validation": 0.25}},
        "model": model,
        "train": {"batch_size": 32, "epochs": 30, "learning_rate": 3e-3, "log_every_steps": 1, "device": "cpu"},
        "checkpoint": {"every_steps": 100},
        "track": {"tensorboard": False, "figure_every_steps": None, "histogram_every_steps": None},
        "monitor": {"sample_interval_s": 5.0},
    }
    return {"name": "advice", **{key: value | sections.get(key, {}) for key, value in values.items()}}


def of_label(column: str, **changes: Any) -> dict[str, Any]:
    """Return the section of a network that learns the values of a column."""
    return {**NETWORK, "labels": [{"column": column, "kind": "value"}], **changes}


def healthy(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield 30 profiles that train well: two families, several seeds, learning rates, batches and clippings."""
    data = write_data(folder / "good.h5", num=400)
    for seed in range(15):
        change = [{}, {"learning_rate": 1e-3}, {"batch_size": 64}, {"clip_norm": None}, {"weight_decay": 0.1}][seed % 5]
        train = {"seed": seed + 1, "epochs": 12, **change}
        yield f"healthy-autoencoder-{seed}", profile_of(data, AUTOENCODER, train=train)
        yield f"healthy-network-{seed}", profile_of(data, of_label("slope"), train=train)


def suffering(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, expected rule, and profile of runs whose settings or data are bad."""
    good, few = write_data(folder / "good.h5", num=400), write_data(folder / "few.h5", noise=1.0, num=60)
    slow = {"learning_rate": 1e-6, "final_learning_rate": 0.0, "epochs": 12}
    fast = {"learning_rate": 0.5, "warmup_steps": 0, "clip_norm": None, "epochs": 12}
    for name, model in (("autoencoder", AUTOENCODER), ("network", of_label("slope"))):
        yield f"slow-{name}", "learning-rate-too-low", profile_of(good, model, train=slow)
        slower = {**slow, "learning_rate": 1e-5}
        yield f"slower-{name}", "learning-rate-too-low", profile_of(good, model, train=slower)
        yield f"fast-{name}", "learning-rate-too-high", profile_of(good, model, train=fast)
    # The network learns well at this rate, even without a warm-up; the autoencoder does not.
    cold = {"learning_rate": 0.1, "warmup_steps": 0, "clip_norm": None, "epochs": 12}
    yield "cold-autoencoder", "learning-rate-too-high", profile_of(good, AUTOENCODER, train=cold)
    wide = {"channels": [16, 32], "hidden": [64], "dropout": 0.0}
    long = {"epochs": 60, "batch_size": 15, "learning_rate": 3e-3, "weight_decay": 0.0}
    for seed in (1, 2):
        train = {**long, "seed": seed}
        yield f"overfit-{seed}", "overfitting", profile_of(few, of_label("slope", **wide), train=train)
        train = {"epochs": 15, "seed": seed}
        permuted = profile_of(good, of_label("permuted", **wide), train=train)
        yield f"permuted-{seed}", "labels-not-learned", permuted


def make(folder: Path, name: str, profile: dict[str, Any]) -> RunDir:
    """Train in a fork of this process, which has imported torch; return the run, whatever became of it."""
    run = RunDir.create(folder, "advice", name)
    run.profile.write_text(yaml.safe_dump(profile))
    child = os.fork()
    if child == 0:
        log = os.open(run.logs / "job-1.0-rank-0000.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from hpctrain.train.__main__ import guarded
        from hpctrain.train.attempt import run_attempt

        code = guarded(lambda: run_attempt(str(run.path)))
        sys.stderr.flush()
        os._exit(code)
    os.waitpid(child, 0)
    return run
