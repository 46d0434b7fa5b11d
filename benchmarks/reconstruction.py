"""Compare reconstructions of held-out spectra by the VAE, the mean spectrum, and PCA of the same latent size.

    python benchmarks/reconstruction.py [--data FILE.h5] [--splits K] [--pretrain N] [--set train.max_steps=2000 ...]

All methods use the same training objects, normalisation, masks and rest-frame grid. The measure is the reduced
chi-square over the same valid pixels of held-out objects. hpctrain itself trains the VAE (``python -m hpctrain.train``)
on CPU or GPU. PCA has an advantage on purpose: it fits its scores to the pixels that judge them, while the encoder of
the VAE computes its latents in one pass. "latents fitted" gives the VAE the same advantage.

Without --data, the benchmark simulates spectra. With few real spectra, use several --splits (repeated random hold-out
by the hash of the object id), and --pretrain N to start from N simulated spectra. The grid must then be linear, 3600 to
9824 AA: `hpctrain ingest sdss ... --grid linear:3600:9824:4`. Use quasars and galaxies together. Stars need other
normalisation windows, so exclude them at ingest (--spectype QSO,GALAXY).
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hpctrain.families.store import load_model
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.pca import WeightedPCA
from hpctrain.kinds.spectra.rest_grid import RestGrid
from hpctrain.kinds.spectra.section import SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.yaml_text import parse_value
from hpctrain.rundir import RunDir, write_json
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split

MAX_PCA_SPECTRA = 2000
"""Largest number of spectra for the fit of PCA, which keeps them in memory; more do not improve it at these sizes."""

SETTINGS: dict[str, Any] = {
    "model": {
        "encoder_channels": [16, 32, 64],
        "encoder_kernels": [5, 7, 11],
        "encoder_hidden": [64, 32],
        "decoder_hidden": [64, 128],
    },
    "train": {
        "batch_size": 32,
        "epochs": 1000000,
        "max_steps": 1500,
        "learning_rate": 4.0e-3,
        "warmup_steps": 50,
        "evaluate_every_steps": 250,
        "log_every_steps": 50,
    },
    "checkpoint": {"every_steps": 500, "keep_last": 1},
    "track": {"tensorboard": False},
}
"""Defaults for two CPU cores; --set changes them."""


def main() -> None:
    """Train, compare, print, and write ``results.json``."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    data = args.data or simulated(args.folder / "simulated.h5", args.num_simulated, args.num_pixels, seed=1)
    settings = {**SETTINGS, "data": {"files": [str(data.absolute())]}}
    settings["model"] = {**SETTINGS["model"], "latent_size": args.latent_size, **rest_grid(data, args.rest_pixels)}
    settings["train"] = dict(SETTINGS["train"])
    for text in args.set:
        key, value = text.split("=", 1)
        section, name = key.split(".", 1)
        settings.setdefault(section, {})[name] = parse_value(value)
    start = pretrain(args, settings) if args.pretrain else None
    rows: list[dict[str, Any]] = []
    for split in range(args.splits):
        sides = {"validation": args.held_out, "salt": f"reconstruction-{split}"}
        here = {**settings, "data": {**settings["data"], "split": sides}}
        runs = {"VAE": train(args.folder, f"split-{split}", here)}
        if start is not None:
            gentle = {"init_from": str(start.model), "learning_rate": 5e-4}
            tuned = {**here, "train": {**here["train"], **gentle}}
            runs[f"VAE, from {args.pretrain} simulated"] = train(args.folder, f"tuned-{split}", tuned)
        rows += compare(runs, data, split)
        print(table(rows, f"{split + 1} of {args.splits} splits"), flush=True)
    write_json(args.folder / "results.json", {"settings": settings, "objects": rows})
    print(by_class(rows))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="HDF5 file of `hpctrain ingest`; if unset, simulated spectra")
    parser.add_argument("--num-simulated", type=int, default=4000, help="spectra to simulate without --data (4000)")
    parser.add_argument("--num-pixels", type=int, default=1000, help="pixels of the simulated spectra (1000)")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-reconstruction"), help="where all goes")
    parser.add_argument("--latent-size", type=int, default=8, help="latents, and components of PCA (8)")
    parser.add_argument("--rest-pixels", type=int, help="pixels of the rest-frame grid (default: as the data)")
    parser.add_argument("--splits", type=int, default=1, help="random hold-outs (1)")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of objects held out (0.2)")
    parser.add_argument("--pretrain", type=int, default=0, metavar="N", help="also start from N simulated spectra")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="change the profile")
    return parser.parse_args()


def simulated(path: Path, num_spectra: int, num_pixels: int, seed: int) -> Path:
    """Simulate spectra unless an earlier call has written them."""
    if not path.exists():
        simulate(path, SimulateSection(num_spectra=num_spectra, num_pixels=num_pixels, seed=seed))
    return path


def rest_grid(data: Path, rest_pixels: int | None) -> dict[str, Any]:
    """Return a rest-frame grid with the range of all spectra, which every split and the pretraining share."""
    spectra = open_spectra(SpectraSection(files=[str(data)]))
    grid = RestGrid.for_data(SpectraFacts.from_spectra(spectra, np.arange(len(spectra))), None, rest_pixels)
    wavelength = grid.wavelength_aa
    return {"rest_wavelength_aa": [float(wavelength[0]), float(wavelength[-1])], "rest_pixels": grid.num_pixels}


def pretrain(args: argparse.Namespace, settings: dict[str, Any]) -> RunDir:
    """Train on simulated spectra on the grid of the data."""
    with h5py.File(args.data) as file:
        num_pixels = file["flux"].shape[1]
    path = simulated(args.folder / f"pretrain-{args.pretrain}-{num_pixels}.h5", args.pretrain, num_pixels, seed=2)
    here = {**settings, "data": {**settings["data"], "files": [str(path.absolute())]}}
    return train(args.folder, "pretrain", here)


def train(folder: Path, name: str, settings: dict[str, Any]) -> RunDir:
    """Train one network with one rank on this machine, as ``srun`` would."""
    profile = profile_of({"name": name, "launch": {"gpus_per_node": int(torch.cuda.is_available())}, **settings})
    run = RunDir.create(folder, name)
    run.profile.write_text(dump_profile(profile))
    start = time.monotonic()
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    print(f"{name}: trained in {time.monotonic() - start:.0f} s, {run.path}", flush=True)
    return run


def compare(runs: dict[str, RunDir], data: Path, split: int) -> list[dict[str, Any]]:
    """Return one record per held-out spectrum: class, redshift, and the reduced chi-square of each reconstruction."""
    models = {name: load_model(run.path) for name, run in runs.items()}
    network, card = next(iter(models.values()))
    profile = profile_of({"name": "x", "data": {"files": [str(data)]}})
    sides = profile.data.split.model_copy(update=card["split"])
    spectra = open_spectra(profile.data)
    side = assign_split(spectra.target_id, sides)

    def read(rows: np.ndarray) -> list[SpectraBatch]:
        batches = (spectra.read(rows[start : start + 64]) for start in range(0, len(rows), 64))
        return [normalise(batch, profile.data.normalise) for batch in batches]

    training = read(np.flatnonzero(side == TRAIN)[:MAX_PCA_SPECTRA])
    components = network.decoder.hidden[0].in_features
    ways: dict[str, Any] = {
        "mean spectrum": WeightedPCA.fit(training, network.grid, 0).reconstruct,
        f"PCA, {components} components": WeightedPCA.fit(training, network.grid, components).reconstruct,
    }
    for name, (model, _) in models.items():
        ways[name] = model.reconstruct
        ways[f"{name}, latents fitted"] = lambda batch, model=model: fit_latents(model, batch)
    held_out = np.flatnonzero(side == VALIDATION)
    classes = read_classes(data, held_out)
    records = []
    for batch in read(held_out):
        chi2 = {name: judge(way, batch) for name, way in ways.items()}
        for place, row in enumerate(batch.row.tolist()):
            if batch.window[place] < 0:
                continue
            record = {"split": split, "target_id": int(batch.target_id[place]), "class": classes[row]}
            record |= {"redshift": float(batch.redshift[place])}
            records.append(record | {"chi2": {name: float(values[place]) for name, values in chi2.items()}})
    return records


def judge(way: Any, batch: SpectraBatch) -> torch.Tensor:
    """Return the reduced chi-square (N,) of a method of reconstruction."""
    reconstruction, covered = way(batch)
    return reduced_chi2(batch.flux, reconstruction.detach(), batch.ivar, covered)


def fit_latents(model: torch.nn.Module, batch: SpectraBatch, num_steps: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruct from the most probable latents instead of those of the encoder."""
    position = model.grid.position(batch.wavelength_aa, batch.redshift)
    covered = model.grid.covers(position)
    weight = torch.where(covered, batch.ivar, 0)
    latents = model.encode(batch)[0].detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(num_steps):
        fit = model.grid.interpolate(model.decoder(latents), position)
        loss = 0.5 * (weight * (batch.flux - fit).square()).sum() + 0.5 * latents.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.grid.interpolate(model.decoder(latents), position), covered


def read_classes(data: Path, rows: np.ndarray) -> dict[int, str]:
    """Return the spectral class of each row; ``all`` if the file has no classes."""
    with h5py.File(data) as file:
        values = file["spectype"].asstr()[()] if "spectype" in file else None
    return {int(row): values[row].strip() if values is not None else "all" for row in rows}


def table(rows: list[dict[str, Any]], title: str) -> str:
    """Return a table: median and mean reduced chi-square of each method, and the share of objects better than PCA."""
    values = {name: np.array([row["chi2"][name] for row in rows]) for name in rows[0]["chi2"]}
    pca = next(value for name, value in values.items() if name.startswith("PCA"))
    objects = len({row["target_id"] for row in rows})
    lines = [f"\nreduced chi-square, held-out spectra: n = {len(rows)} ({objects} objects, {title})"]
    lines.append(f"{'':44}{'median':>9}{'mean':>9}{'25 %':>9}{'75 %':>9}{'< PCA':>8}")
    for name, value in values.items():
        numbers = (np.median(value), value.mean(), *np.quantile(value, [0.25, 0.75]))
        lines.append(f"{name:44}" + "".join(f"{number:9.3f}" for number in numbers) + f"{(value < pca).mean():8.0%}")
    return "\n".join(lines)


def by_class(rows: list[dict[str, Any]]) -> str:
    """Return a table of medians by class and redshift."""
    names = list(rows[0]["chi2"])
    lines = ["\nmedian by class and redshift", f"{'':24}{'n':>6}  " + "  ".join(names)]
    edges = [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 9.0]
    for kind in sorted({row["class"] for row in rows}):
        for low, high in itertools.pairwise(edges):
            chosen = [row for row in rows if row["class"] == kind and low <= max(row["redshift"], 0) < high]
            if chosen:
                medians = [np.median([row["chi2"][name] for row in chosen]) for name in names]
                cells = "  ".join(f"{m:{len(n)}.3f}" for m, n in zip(medians, names, strict=True))
                lines.append(f"{kind:10} {low:4.1f} < z < {high:3.1f}{len(chosen):6}  {cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
