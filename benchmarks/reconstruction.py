"""Compare reconstructions of held-out spectra by the network, the mean spectrum, and PCA of the same latent size.

    python -m benchmarks.reconstruction [--data FILE.h5] [--seeds 3] [--latent-size 2 4 8] [--splits K] [--set ...]
        [--spender PYTHON] [--figure FILE.svg]

All methods use the same training objects, normalisation, masks and rest-frame grid. The measure is the reduced
chi-square over the same valid pixels of held-out objects. hpctrain itself trains the network (``python -m
hpctrain.train``) on CPU or GPU, once for each seed. PCA has an advantage on purpose: it fits its scores to the pixels
that judge them, and of three converged fits the one counts that is best on the held-out spectra. "start" is the robust
PCA from which the network starts, with fitted scores, too. "one pass" is the network's encoder alone, "+1" and "+10"
add Gauss-Newton steps. Intervals are 95 % of a paired bootstrap over objects.
Weights, FLOPs, time and memory of the network come first (benchmarks/reconstruction_cost.py).
A perfect model has a mean of 1, the noise. "excess" is what the mean has above 1, as a change of what PCA has above it.

--spender trains spender (pip install spender) on the same spectra in a Python that has it, by default for as long as
the networks took on average (benchmarks/reconstruction_spender.py). --figure draws reduced chi-square against latent
size; --with adds the latent sizes of earlier runs to it.

Without --data, the benchmark simulates spectra. With few real spectra, use several --splits (repeated random hold-out
by the hash of the object id). Use quasars and galaxies together. Stars need other normalisation windows, so exclude
them at ingest (--spectype QSO,GALAXY).
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from benchmarks.reconstruction_cost import cost
from benchmarks.reconstruction_figure import draw
from hpctrain.families.store import load_model
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.pca import RestSample, WeightedPCA, fit_rounds
from hpctrain.kinds.spectra.rest_grid import RestGrid
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.schema import Profile
from hpctrain.profile.yaml_text import parse_value
from hpctrain.rundir import RunDir, write_json
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split

PCA_FITS = 3
"""Number of fits of PCA, each from another random start."""

MAX_PCA_SPECTRA = 6000
"""Largest number of spectra for a fit of PCA, which keeps them in memory."""

STEPS = {"one pass": 0, "+1": 1, "+10": 10}
"""Gauss-Newton steps of each row of the table."""

NUM_RESAMPLES = 2000

PCA = "PCA, scores fitted"
"""Name of the row of PCA."""

Way = Callable[[SpectraBatch], tuple[Tensor, Tensor]]

SETTINGS: dict[str, Any] = {
    "model": {"dropout": 0.2},
    "train": {
        "batch_size": 128,
        "epochs": 100,
        "learning_rate": 1.0e-3,
        "warmup_steps": 50,
        "evaluate_every_steps": 100,
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
    everything = []
    for size, split in itertools.product(args.latent_size, range(args.splits)):
        start = time.monotonic()
        runs = {seed: train(args, data, size, split, seed) for seed in range(args.seeds)}
        seconds = (time.monotonic() - start) / args.seeds
        everything += compare(runs, data, size, split, args.spender, args.spender_seconds or seconds)
        chosen = [row for row in everything if row["latent_size"] == size]
        print(table(chosen, f"latent size {size}, {args.seeds} seeds, {split + 1} of {args.splits} splits"), flush=True)
    write_json(args.folder / "results.json", {"settings": SETTINGS, "set": args.set, "objects": everything})
    print(by_class(everything))
    if args.figure:
        earlier = [row for path in getattr(args, "with") for row in json.loads(path.read_text())["objects"]]
        draw(earlier + everything, args.figure)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="HDF5 file of `hpctrain ingest`; if unset, simulated spectra")
    parser.add_argument("--num-simulated", type=int, default=4000, help="spectra to simulate without --data (4000)")
    parser.add_argument("--num-pixels", type=int, default=1000, help="pixels of the simulated spectra (1000)")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-reconstruction"), help="where all goes")
    parser.add_argument("--latent-size", type=int, nargs="+", default=[8], help="latents, and components of PCA (8)")
    parser.add_argument("--seeds", type=int, default=3, help="networks, each from another seed (3)")
    parser.add_argument("--splits", type=int, default=1, help="random hold-outs (1)")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of objects held out (0.2)")
    parser.add_argument("--spender", type=Path, metavar="PYTHON", help="also train spender, in this Python")
    parser.add_argument("--spender-seconds", type=float, help="time to train spender [s]; by default that of a network")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the figure: .svg, .png or .pdf")
    parser.add_argument("--with", type=Path, nargs="+", default=[], metavar="RESULTS.json", help="also draw these")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="change the profile")
    return parser.parse_args()


def simulated(path: Path, num_spectra: int, num_pixels: int, seed: int) -> Path:
    """Simulate spectra unless an earlier call has written them."""
    if not path.exists():
        simulate(path, SimulateSection(num_spectra=num_spectra, num_pixels=num_pixels, seed=seed))
    return path


def train(args: argparse.Namespace, data: Path, latent_size: int, split: int, seed: int) -> RunDir:
    """Train one network with one rank on this machine, as ``srun`` would."""
    name = f"latents-{latent_size}-split-{split}-seed-{seed}"
    values: dict[str, Any] = {section: dict(keys) for section, keys in SETTINGS.items()}
    sides = {"validation": args.held_out, "salt": f"reconstruction-{split}"}
    values["data"] = {"files": [str(data.absolute())], "split": sides}
    values["launch"] = {"gpus_per_node": int(torch.cuda.is_available())}
    values["model"]["latent_size"], values["train"]["seed"] = latent_size, seed
    for text in args.set:
        key, value = text.split("=", 1)
        section, key = key.split(".", 1)
        values.setdefault(section, {})[key] = parse_value(value)
    run = RunDir.create(args.folder, name)
    run.profile.write_text(dump_profile(profile_of({"name": name, **values})))
    start = time.monotonic()
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    print(f"{name}: trained in {time.monotonic() - start:.0f} s, {run.path}", flush=True)
    return run


def compare(
    runs: dict[int, RunDir], data: Path, latent_size: int, split: int, spender: Path | None, seconds: float
) -> list[dict[str, Any]]:
    """Return one record per held-out spectrum: class, redshift, and the reduced chi-square of each method."""
    models = {seed: load_model(run.path) for seed, run in runs.items()}
    network, card = models[0]
    profile = profile_of({"name": "x", "data": {"files": [str(data)]}})
    sides = profile.data.split.model_copy(update=card["split"])
    spectra = open_spectra(profile.data)
    side = assign_split(spectra.target_id, sides)
    held_out = list(read(spectra, profile, np.flatnonzero(side == VALIDATION)))
    to_train = np.flatnonzero(side == TRAIN)
    print(cost(network, held_out[0], runs[0]), flush=True)
    sample = RestSample.of(read(spectra, profile, to_train[:MAX_PCA_SPECTRA]), network.grid)
    chi2 = {"mean spectrum": judge(next(fit_rounds(sample, network.grid, 0)).reconstruct, held_out)}
    fits = []
    for seed in range(PCA_FITS):
        *_, pca = fit_rounds(sample, network.grid, latent_size, tolerance=1e-5, num_iterations=200, seed=seed)
        fits.append(judge(pca.reconstruct, held_out))
    chi2[PCA] = min(fits, key=np.nanmedian)
    for seed, (model, _) in models.items():
        if model.decoder.is_linear_plus:
            start = WeightedPCA(model.grid, model.decoder.mean, model.decoder.components)
            chi2[f"start, seed {seed}"] = judge(start.reconstruct, held_out)
    for (seed, (model, _)), (step, number) in itertools.product(models.items(), STEPS.items()):
        chi2[f"{step}, seed {seed}"] = judge(lambda batch: model.reconstruct(batch, number), held_out)  # noqa: B023
    if spender is not None:
        way = train_spender(
            spender, list(read(spectra, profile, to_train)), held_out, network.grid, latent_size, seconds
        )
        chi2["spender"] = judge(way, held_out)
    ids = torch.cat([batch.target_id for batch in held_out]).numpy()
    redshift = torch.cat([batch.redshift for batch in held_out]).numpy()
    rows = torch.cat([batch.row for batch in held_out]).tolist()
    classes = read_classes(data, rows)
    return [
        {
            "latent_size": latent_size,
            "split": split,
            "target_id": int(ids[place]),
            "class": classes[row],
            "redshift": float(redshift[place]),
            "chi2": {name: float(values[place]) for name, values in chi2.items()},
        }
        for place, row in enumerate(rows)
        if np.isfinite(chi2[PCA][place])
    ]


def train_spender(
    python: Path, to_train: list[SpectraBatch], held_out: list[SpectraBatch], grid: RestGrid, size: int, seconds: float
) -> Way:
    """Train spender for some seconds and return its reconstruction of the held-out batches, which come in order."""
    arrays = {"wavelength_aa": to_train[0].wavelength_aa.numpy(), "rest_wavelength_aa": grid.wavelength_aa.numpy()}
    for side, batches in (("train", to_train), ("held_out", held_out)):
        for name in ("flux", "ivar", "redshift"):
            arrays[f"{side}_{name}"] = torch.cat([getattr(batch, name) for batch in batches]).numpy()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **arrays)
        script = Path(__file__).with_name("reconstruction_spender.py")
        subprocess.run([python, script, source, out, str(size), str(seconds), "0"], check=True)
        result = dict(np.load(out))
    print(
        f"spender {result['version']}, {size} latents: {result['weights'] / 1e6:.2f} M weights, "
        f"{result['steps']} steps, {result['epochs']:.1f} epochs in {seconds:.0f} s",
        flush=True,
    )
    pieces = iter(torch.as_tensor(result["reconstruction"]).split([len(batch) for batch in held_out]))

    def way(batch: SpectraBatch) -> tuple[Tensor, Tensor]:
        return next(pieces), grid.covers(grid.position(batch.wavelength_aa, batch.redshift))

    return way


def read(spectra: SpectraSet, profile: Profile, rows: np.ndarray) -> Iterator[SpectraBatch]:
    """Yield normalised spectra."""
    for start in range(0, len(rows), 64):
        yield normalise(spectra.read(rows[start : start + 64]), profile.data.normalise)


@torch.no_grad()
def judge(way: Way, batches: list[SpectraBatch]) -> np.ndarray:
    """Return the reduced chi-square (N,) of a method; NaN where a spectrum was rejected."""
    values = []
    for batch in batches:
        reconstruction, covered = way(batch)
        chi2 = reduced_chi2(batch.flux, reconstruction, batch.ivar, covered)
        values.append(chi2.masked_fill(batch.window < 0, torch.nan))
    return torch.cat(values).numpy()


def read_classes(data: Path, rows: list[int]) -> dict[int, str]:
    """Return the spectral class of each row; ``all`` if the file has no classes."""
    with h5py.File(data) as file:
        values = file["spectype"].asstr()[()] if "spectype" in file else None
    return {int(row): values[row].strip() if values is not None else "all" for row in rows}


def table(rows: list[dict[str, Any]], title: str) -> str:
    """Return a table: median and mean reduced chi-square, the share better than PCA, and the differences to PCA."""
    values = {name: np.array([row["chi2"][name] for row in rows]) for name in rows[0]["chi2"]}
    objects = np.array([row["target_id"] for row in rows])
    lines = [f"\nreduced chi-square, held-out spectra: n = {len(rows)} ({len(set(objects))} objects; {title})"]
    lines.append(
        f"{'':24}{'median':>8}{'mean':>8}{'< PCA':>7}   median - PCA (95 %)    mean - PCA (95 %)      excess (95 %)"
    )
    for name, value in values.items():
        line = f"{name:24}{np.median(value):8.3f}{value.mean():8.3f}{(value < values[PCA]).mean():7.0%}"
        if name != PCA:
            *differences, (low, high) = bootstrap(value, values[PCA], objects)
            line += "".join(f"   {a:+9.3f} ..{b:+9.3f}" for a, b in differences)
            line += f"   {(value.mean() - 1) / (values[PCA].mean() - 1) - 1:+5.0%} ({low:+.0%} .. {high:+.0%})"
        lines.append(line)
    return "\n".join(lines)


def bootstrap(ours: np.ndarray, theirs: np.ndarray, objects: np.ndarray) -> list[tuple[float, float]]:
    """Return 95 % intervals: differences of medians and of means, and relative change of the mean's excess over 1.

    Objects are drawn with all their spectra.
    """
    generator = np.random.default_rng(0)
    _, place, count = np.unique(objects, return_inverse=True, return_counts=True)
    rows, first = np.argsort(place, kind="stable"), np.cumsum(count) - count
    found = []
    for _ in range(NUM_RESAMPLES):
        chosen = generator.integers(0, len(count), len(count))
        number = count[chosen]
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        drawn = rows[np.repeat(first[chosen], number) + within]
        a, b = ours[drawn], theirs[drawn]
        mean, other = a.mean(), b.mean()
        found.append((np.median(a) - np.median(b), mean - other, (mean - 1) / (other - 1) - 1))
    return [tuple(np.quantile(column, [0.025, 0.975])) for column in np.array(found).T]


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
