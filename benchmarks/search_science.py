"""Does a search find better models than random trials at the same cost? Real training, several seeds, intervals.

    python -m benchmarks.search_science [--seeds 10] [--trials 24] [--figure search.svg]
    python -m benchmarks.search_science --shared FOLDER      photometric redshifts of FOLDER/photoz, by boosted trees

Each trial trains a small spectral_vae with convolutions on simulated spectra, or trees on real galaxies, through the
product: asked for, trained by the rank of a search with its referee, and sealed. All methods may spend the training
steps of so many whole trials. The score is the best held-out loss so far; a method that prunes can afford more trials.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.science_catalogue import BANDS, MGS, PAIRS, write_galaxies
from hpctrain.families.spectral_vae.figures import BLUE, GREY, VERMILION
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.search.ask import ask
from hpctrain.search.folder import StudyDir, StudyRecord, TrialDir, write_study
from hpctrain.search.referee import StudyReferee
from hpctrain.search.section import StudySection
from hpctrain.search.trials import PRUNED, Trial, TrialReader
from hpctrain.states import FINISHED
from hpctrain.train.attempt import run_attempt

NUM_EVALUATIONS = 9
METHODS: dict[str, dict[str, Any]] = {
    "random": {"sampler": {"name": "random"}},
    "TPE": {"sampler": {"name": "tpe", "startup_trials": 8}},
    "TPE + Hyperband": {
        "sampler": {"name": "tpe", "startup_trials": 8},
        "pruner": {"name": "hyperband", "max_evaluations": NUM_EVALUATIONS},
    },
}


@dataclass(frozen=True)
class Goal:
    """What is searched for: sections of the profile that all trials share, the space, and the steps of a whole trial.

    An evaluation comes after each ninth of the steps.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    space: dict[str, Any]
    num_steps: int

    def profile_values(self, runs_dir: Path) -> dict[str, Any]:
        """Return the plain values of the profile."""
        every = self.num_steps // NUM_EVALUATIONS
        return {
            "name": "search",
            "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "runs_dir": str(runs_dir)},
            "data": self.data,
            "model": self.model,
            "train": {"evaluate_every_steps": every, "device": "cpu", **self.train},
            "checkpoint": {"every_steps": 1000, "keep_best": False},
            "track": {"tensorboard": False},
        }


def of_spectra(folder: Path) -> Goal:
    """Return a small spectral_vae with convolutions on 600 simulated spectra."""
    path = folder / "data.h5"
    simulate(path, SimulateSection(num_spectra=600, num_pixels=256, snr_median=8.0, seed=7))
    return Goal(
        data={"files": [str(path)], "reader_threads": 0, "split": {"validation": 0.25}},
        model={
            "encoder": "convolutional", "latent_size": 4, "encoder_channels": [8, 8], "encoder_kernels": [5, 5],
            "encoder_hidden": [16], "decoder_hidden": [32], "rest_pixels": 200, "start": "random",
        },
        train={"batch_size": 16, "epochs": 1000, "max_steps": 90, "warmup_steps": 5, "log_every_steps": 30},
        space={
            "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
            "train.weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
            "train.warmup_steps": {"low": 2, "high": 40},
            "model.dropout": {"low": 0.0, "high": 0.5},
            "model.encoder_channels": [[4, 4], [8, 8], [8, 16]],
            "model.decoder_hidden": [[8], [32], [64]],
        },
        num_steps=90,
    )  # fmt: skip


def of_galaxies(folder: Path, shared: Path) -> Goal:
    """Return boosted trees on 1,500 galaxies of the SDSS main sample."""
    path = folder / "galaxies.h5"
    write_galaxies(shared / MGS[0], path)
    return Goal(
        data={
            "files": [str(path)], "features": BANDS, "differences": PAIRS, "max_rows": 1500,
            "split": {"validation": 0.3},
        },
        model={
            "family": "trees", "method": "boosting", "splits": "histogram", "trees": 108, "trees_per_round": 4,
            "labels": [{"column": "zs", "kind": "value"}],
        },
        train={"batch_size": 1024, "log_every_steps": 9},
        space={
            "model.learning_rate": {"low": 1e-3, "high": 1.0, "log": True},
            "model.min_leaf": {"low": 1, "high": 200, "log": True},
            "model.max_depth": {"low": 1, "high": 12},
            "model.features_per_split": {"low": 0.1, "high": 1.0},
            "model.sample": {"low": 0.1, "high": 1.0},
        },
        num_steps=27,
    )  # fmt: skip


def search(folder: Path, goal: Goal, method: str, seed: int, budget_steps: int) -> list[Trial]:
    """Run a study one trial at a time until the budget is spent, and return its trials."""
    study = StudyDir(folder / method.replace(" ", "") / str(seed))
    study.path.mkdir(parents=True)
    section = StudySection.model_validate(
        {
            "name": f"search-{seed}",
            "base": "base.yaml",
            "trials": 1000,
            "seed": seed,
            "space": goal.space,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            **METHODS[method],
        }
    )
    write_study(study, section)
    study.base.write_text(dump_profile(profile_of(goal.profile_values(folder))))
    study.write_record(StudyRecord("local", time.time(), section.trials))
    reader, spent, number = TrialReader(study), 0, 0
    while spent < budget_steps:
        study.write_record(StudyRecord("local", time.time(), number + 1))
        trial = study.trial(number)
        ask(trial, None)
        train(trial)
        trials = reader.read()
        spent += trials[number].step
        number += 1
    return trials


def train(trial: TrialDir) -> None:
    """Train a trial in a fork: importing torch again would take longer than the training."""
    if (child := os.fork()) == 0:
        with (
            open(trial.logs / "rank.log", "w") as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            os.environ.update(HPCTRAIN_JOB_ID="benchmark")
            os._exit(run_attempt(trial.path, new_referee=functools.partial(StudyReferee, trial)))
    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) not in (0, 6):
        raise SystemExit(f"{trial.path}: exit code {code}; see {trial.logs}")


def best_so_far(trials: list[Trial], grid: np.ndarray) -> np.ndarray:
    """Return the best held-out loss of finished trials after so many steps of all trials; NaN before the first one."""
    spent, best = np.cumsum([trial.step for trial in trials]), np.full(len(grid), np.nan)
    for steps, trial in zip(spent, trials, strict=True):
        if trial.state == FINISHED and trial.scores:
            best[grid >= steps] = np.fmin(best[grid >= steps], trial.scores[0])
    return best


def interval(values: np.ndarray, draw: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean over seeds."""
    means = draw.choice(values, (4000, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main(arguments: list[str] | None = None) -> None:
    """Run all methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=24, help="whole trials that each method may spend")
    parser.add_argument("--shared", type=Path, metavar="FOLDER", help="folder with photoz/SDSS_MGS.train.gz")
    parser.add_argument("--figure", type=Path, help="write a figure here (SVG)")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args(arguments)
    curves: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    counts: dict[str, list[tuple[int, int, int]]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        goal = of_galaxies(folder, options.shared) if options.shared else of_spectra(folder)
        budget = options.trials * goal.num_steps
        grid = np.linspace(goal.num_steps, budget, 4 * options.trials - 3)
        for seed in range(options.seeds):
            for method in METHODS:
                trials = search(folder, goal, method, seed, budget)
                curves[method].append(best_so_far(trials, grid))
                pruned = [trial for trial in trials if trial.state == PRUNED]
                saved = sum(goal.num_steps - trial.step for trial in pruned)
                counts[method].append((len(trials), len(pruned), saved))
                print(f"seed {seed} {method}: {curves[method][-1][-1]:.5f}, {counts[method][-1]}", file=sys.stderr)
    _print(curves, counts, options.trials)
    if options.json:
        options.json.write_text(
            json.dumps({"steps": grid.tolist(), "best": {k: np.array(v).tolist() for k, v in curves.items()}})
        )
    if options.figure:
        _draw(options.figure, curves, grid / goal.num_steps)


def _print(curves: dict[str, list[np.ndarray]], counts: dict[str, list[tuple[int, int, int]]], trials: int) -> None:
    draw = np.random.default_rng(1)
    at_random = np.array([curve[-1] for curve in curves["random"]])
    print(f"cost of {trials} whole trials, {len(at_random)} seeds; mean and 95 % interval over seeds")
    print(f"{'method':<18}{'best held-out loss':<28}{'minus random':<30}{'trials':>7}{'pruned':>8}{'steps saved':>13}")
    for method, found in curves.items():
        best = np.array([curve[-1] for curve in found])
        low, high = interval(best, draw)
        gain = best - at_random
        ends = interval(gain, draw)
        mean = np.mean(counts[method], axis=0)
        print(
            f"{method:<18}{f'{best.mean():.4f} ({low:.4f} to {high:.4f})':<28}"
            f"{f'{gain.mean():+.4f} ({ends[0]:+.4f} to {ends[1]:+.4f})':<30}"
            f"{mean[0]:>7.1f}{mean[1]:>8.1f}{mean[2]:>13.0f}"
        )


def _draw(path: Path, curves: dict[str, list[np.ndarray]], cost: np.ndarray) -> None:
    """Draw the mean over seeds of the best loss so far against the cost, with 95 % intervals."""
    draw = np.random.default_rng(1)
    with rc_context({"svg.hashsalt": "hpctrain", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for (method, found), colour in zip(curves.items(), (GREY, BLUE, VERMILION), strict=True):
            best = np.array(found)
            ends = np.array([interval(column, draw) for column in best.T])
            axes.plot(cost, best.mean(axis=0), color=colour, label=method)
            axes.fill_between(cost, *ends.T, color=colour, alpha=0.2, linewidth=0)
        axes.set_xlabel("cost [whole trials]")
        axes.set_ylabel("best held-out loss so far")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
