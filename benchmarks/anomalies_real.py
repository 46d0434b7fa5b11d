"""Count the false alarms of anomaly scores among real spectra that neither the network nor the scores have seen.

Part of ``python -m benchmarks.anomalies --data FILE.h5``. The objects are split into folds. For each fold, hpctrain
trains on the objects of the others, of which it holds out some as usual, and scores the fold by them
(``hpctrain encode --score-against model``). All spectra count as ordinary, so the share above the score of a nominal
probability is an upper limit of the false alarms: some of them may really be unusual. The same spectra are also scored
by the held-out spectra as these judge themselves, and by the training spectra.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.redshift import share
from hpctrain.families.spectral_vae.anomaly import fit_reference
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.rundir import RunDir

HELD_OUT_SHARE = 0.3
FALSE_ALARMS = (0.1, 0.01, 0.001)
WAYS = {
    "model": "held-out spectra, each judged without itself (hpctrain)",
    "held_out": "held-out spectra, as they judge themselves",
    "train": "training spectra",
}
SETTINGS: dict[str, Any] = {
    "model": {"latent_size": 8, "dropout": 0.2},
    "train": {
        "batch_size": 64,
        "epochs": 1000,
        "max_steps": 300,
        "learning_rate": 5.0e-4,
        "warmup_steps": 17,
        "evaluate_every_steps": 20,
        "log_every_steps": 20,
        "early_stopping": {"patience": 6},
    },
    "checkpoint": {"every_steps": 1000, "keep_last": 1},
    "track": {"tensorboard": False},
}
"""For some hundred real spectra: a small step, and the weights of the best evaluation, which may be the start."""


def judge_real(args: argparse.Namespace) -> dict[str, Any]:
    """Train on each fold, score its objects, print a table, and return the shares above each nominal probability."""
    with h5py.File(args.data) as file:
        objects = file["target_id"][()]
    names = np.unique(objects)
    fold_of = np.random.default_rng(args.first_seed).permutation(len(names)) % args.folds
    fold = fold_of[np.searchsorted(names, objects)]
    _, first = np.unique(objects, return_index=True)
    is_first = np.isin(np.arange(len(objects)), first)  # one spectrum of each object is judged
    scores: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    sizes = []
    for number in range(args.folds):
        known = subset(args.data, fold != number, args.folder / f"known-{number}.h5")
        new = subset(args.data, (fold == number) & is_first, args.folder / f"new-{number}.h5")
        found, size = scores_of(args, known, new, number)
        sizes.append(size)
        for way, values in found.items():
            scores[way].append(values)
    joined = {way: np.concatenate(values) for way, values in scores.items()}
    print(table(joined, sizes), flush=True)
    return {way: {str(p): share(alarms(values, p)) for p in FALSE_ALARMS} for way, values in joined.items()}


def subset(path: Path, rows: np.ndarray, out: Path) -> Path:
    """Write some rows (N,) bool of a file of spectra as a file of their own."""
    with h5py.File(path) as source, h5py.File(out, "w") as file:
        for name, dataset in source.items():
            if isinstance(dataset, h5py.Dataset):
                file[name] = dataset[()][rows] if dataset.shape[0] == len(rows) else dataset[()]
    return out


def scores_of(args: argparse.Namespace, known: Path, new: Path, number: int) -> tuple[dict[str, np.ndarray], int]:
    """Train on `known`; return the scores of `new` in each way, and the number of held-out spectra."""
    values = {name: dict(section) for name, section in SETTINGS.items()}
    values["data"] = {"files": [str(known.absolute())], "split": {"validation": HELD_OUT_SHARE}}
    values["train"]["seed"] = args.first_seed
    values["launch"] = {"gpus_per_node": int(torch.cuda.is_available())}
    run = RunDir.create(args.folder, f"fold-{number}")
    run.profile.write_text(dump_profile(profile_of({"name": f"fold-{number}", **values})))
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    scored = encode(run, new, args.folder / f"new-{number}-latents.h5", "all")
    trained = encode(run, known, args.folder / f"train-{number}-latents.h5", "train")
    inputs = read(scored)
    found = {"model": read_column(scored, "ANOMALY_SCORE")}
    held_out = run.results / "latents.h5"
    for way, path in (("held_out", held_out), ("train", trained)):
        found[way] = fit_reference(*read(path), args.first_seed).score(*inputs)["ANOMALY_SCORE"]
    return found, len(read_column(held_out, "SNR"))


def encode(run: RunDir, spectra: Path, out: Path, side: str) -> Path:
    """Encode spectra with the model of a run, and score them against it."""
    command = [sys.executable, "-m", "hpctrain", "encode", str(run.path), str(spectra), "--out", str(out)]
    subprocess.run([*command, "--split", side, "--score-against", "model", "--overwrite"], check=True)
    return out


def read(path: Path) -> tuple[np.ndarray, ...]:
    """Return what a score is computed from: latents, reduced chi-square, signal to noise ratio, redshift."""
    return tuple(read_column(path, name) for name in ("LATENT_VEC", "RECON_MSE", "SNR", "redshift"))


def read_column(path: Path, name: str) -> np.ndarray:
    """Return a column of a catalogue."""
    with h5py.File(path) as file:
        return file[name][()]


def alarms(scores: np.ndarray, probability: float) -> np.ndarray:
    """Return which of the objects with a score lie at or above that of a nominal probability."""
    return scores[np.isfinite(scores)] >= -np.log10(probability)


def table(scores: dict[str, np.ndarray], sizes: list[int]) -> str:
    """Return the shares above each nominal probability, with their intervals of Clopper and Pearson, as text."""
    number = int(np.isfinite(scores["model"]).sum())
    lines = [
        f"\n{number} real objects that were never seen; {min(sizes)} to {max(sizes)} held-out spectra in each fold"
    ]
    lines.append(f"{'scores compare with':58}" + "".join(f"nominal {p:<16}" for p in FALSE_ALARMS))
    for way, title in WAYS.items():
        lines.append(f"{title:58}" + "".join(f"{share(alarms(scores[way], p)):24}" for p in FALSE_ALARMS))
    return "\n".join(lines)
