"""Find the unusual objects among simulated spectra: how complete, how pure, and how many false alarms.

    python -m benchmarks.anomalies [--num-simulated 20000] [--seeds 3] [--set train.max_steps=300 ...]
    python -m benchmarks.anomalies --data FILE.h5 [--folds 5]

For each seed hpctrain itself simulates spectra of which 0.6 % are unusual (dust, broad absorption, two objects in one
fibre, a wrong redshift, arms that do not meet, extreme lines), trains the default network, encodes all spectra, and
ranks them. The network does not see the truth. Each score is judged by the area under the ROC curve (AUC: the
probability that an unusual object ranks above an ordinary one) and the average precision (AP: the mean purity of lists
of all lengths; 0.006 by chance), with 95 % intervals by bootstrap over objects. False alarms are the shares of ordinary
objects above the score of a nominal probability: among the objects that the scores compare with, and among others that
are compared with few of them.

With --data, only the false alarms among the real spectra of a file are counted (benchmarks/anomalies_real.py).
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
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.anomalies_real import judge_real
from benchmarks.reconstruction import simulated
from hpctrain.families.spectral_vae.anomaly import fit_reference
from hpctrain.kinds.spectra.simulate import UNUSUAL_KINDS
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.yaml_text import parse_value
from hpctrain.rundir import RunDir, write_json

AUC_BAR, AP_BAR = 0.95, 0.5
NUM_BOOTSTRAPS = 200
FALSE_ALARMS = (0.1, 0.01, 0.001)
REFERENCES = {40: 12, 167: 8, 1000: 3}
"""Number of objects that other objects are compared with, to the number of draws."""
SCORES = {
    "chi-square": ("RECON_MSE", 1),
    "Isolation Forest": ("FOREST_SCORE", -1),
    "local chi-square": ("LOCAL_CHI2", 1),
    "density of latents": ("LATENT_DENSITY", -1),
    "both: ANOMALY_SCORE": ("ANOMALY_SCORE", 1),
}
"""Name of a score to its column, and its sign: larger must be more unusual."""

SETTINGS: dict[str, Any] = {
    "model": {"latent_size": 8},
    "train": {
        "batch_size": 128,
        "epochs": 4,
        "learning_rate": 2.0e-3,
        "final_learning_rate": 1.0e-5,
        "warmup_steps": 50,
        "clip_norm": 1.0,
        "evaluate_every_steps": 300,
        "log_every_steps": 50,
    },
    "checkpoint": {"every_steps": 300, "keep_last": 1},
    "track": {"tensorboard": False},
}
"""Defaults for a few minutes of one CPU core; --set changes them."""


def main() -> None:
    """Simulate, train, encode, judge, print, and write ``anomalies.json``."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.data:
        write_json(args.folder / "anomalies-real.json", judge_real(args))
        return
    records = []
    for number in range(len(args.catalogue or ()) or args.seeds):
        seed = args.first_seed + number
        path = args.catalogue[number] if args.catalogue else made(args, seed)
        records.append({"seed": seed, **judge(path, np.random.default_rng(seed))})
        print(table(records[-1]), flush=True)
    write_json(args.folder / "anomalies.json", {"settings": settings_of(args), "seeds": records})
    print(summary(records))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-simulated", type=int, default=20_000, help="spectra of each seed (20000)")
    parser.add_argument("--num-pixels", type=int, default=512, help="their pixels (512)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (3)")
    parser.add_argument("--first-seed", type=int, default=11, help="seed of the first simulation and training (11)")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-anomalies"), help="where all goes")
    parser.add_argument(
        "--catalogue",
        type=Path,
        nargs="+",
        help="judge these catalogues of simulated spectra instead, one for each seed",
    )
    parser.add_argument("--data", type=Path, help="count false alarms among the real spectra of this file instead")
    parser.add_argument("--folds", type=int, default=5, help="folds of its objects (5)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="change the profile")
    return parser.parse_args()


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the profile of all seeds."""
    settings = {name: dict(section) for name, section in SETTINGS.items()}
    for text in args.set:
        key, value = text.split("=", 1)
        section, name = key.split(".", 1)
        settings.setdefault(section, {})[name] = parse_value(value)
    return settings


def made(args: argparse.Namespace, seed: int) -> Path:
    """Simulate spectra, train on them and encode them all; return the catalogue."""
    name = f"simulated-{seed}-{args.num_simulated}.h5"
    data = simulated(args.folder / name, args.num_simulated, args.num_pixels, seed=seed)
    settings = settings_of(args)
    settings["data"] = {"files": [str(data.absolute())], "split": {"validation": 0.1}}
    settings["train"]["seed"] = seed
    settings["launch"] = {"gpus_per_node": int(torch.cuda.is_available())}
    run = RunDir.create(args.folder, f"seed-{seed}")
    run.profile.write_text(dump_profile(profile_of({"name": f"seed-{seed}", **settings})))
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    out = args.folder / f"latents-{seed}.h5"
    command = [sys.executable, "-m", "hpctrain", "encode", str(run.path), str(data), "--out", str(out), "--overwrite"]
    subprocess.run([*command, "--score-against", "file"], check=True)
    return out


def judge(path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Return AUC and AP of each score with their intervals, AUC by kind, and the shares of false alarms."""
    with h5py.File(path) as file:
        columns = {name: file[name][:].astype(np.float64) for name, _ in SCORES.values()}
        kind = file["unusual_kind"][:]
    good = np.isfinite(list(columns.values())).all(axis=0)
    kind, truth = kind[good], kind[good] > 0
    found: dict[str, Any] = {"num_objects": int(good.sum()), "num_unusual": int(truth.sum()), "scores": {}}
    for name, (column, sign) in SCORES.items():
        score = sign * columns[column][good]
        draws = [rng.integers(0, len(score), len(score)) for _ in range(NUM_BOOTSTRAPS)]
        both = np.array([judged(truth[draw], score[draw]) for draw in draws])
        found["scores"][name] = {
            "auc": judged(truth, score)[0],
            "auc_95": np.quantile(both[:, 0], [0.025, 0.975]).tolist(),
            "ap": judged(truth, score)[1],
            "ap_95": np.quantile(both[:, 1], [0.025, 0.975]).tolist(),
            "auc_of_kinds": [by_kind(score, kind, number) for number in range(1, len(UNUSUAL_KINDS))],
        }
    score = columns["ANOMALY_SCORE"][good]
    found["false_alarms"] = {str(p): float(np.mean(score[~truth] >= -np.log10(p))) for p in FALSE_ALARMS}
    found["found"] = {str(p): float(np.mean(score[truth] >= -np.log10(p))) for p in FALSE_ALARMS}
    found["others"] = {str(number): of_others(path, good, kind, number, rng) for number in REFERENCES}
    return found


def of_others(path: Path, good: np.ndarray, kind: np.ndarray, number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Compare all other objects with `number` of them, unusual ones included; return AUC and false alarms at 0.01.

    `kind` has the kinds of the `good` rows. "before" are the false alarms if the reference judges its own objects.
    """
    with h5py.File(path) as file:
        columns = [file[name][()][good] for name in ("LATENT_VEC", "RECON_MSE", "SNR", "redshift")]
    auc, alarms, before = [], [], []
    for draw in range(REFERENCES[number]):
        order = rng.permutation(len(kind))
        few, rest = ([column[rows] for column in columns] for rows in (order[:number], order[number:]))
        truth = kind[order[number:]] > 0
        score = fit_reference(*few, draw, for_others=True).score(*rest)["ANOMALY_SCORE"]
        auc.append(judged(truth, score)[0])
        alarms.append(float(np.mean(score[~truth] >= 2)))
        before.append(float(np.mean(fit_reference(*few, draw).score(*rest)["ANOMALY_SCORE"][~truth] >= 2)))
    return {"auc": float(np.mean(auc)), "alarms": alarms, "before": before}


def judged(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return AUC and AP."""
    return float(roc_auc_score(truth, score)), float(average_precision_score(truth, score))


def by_kind(score: np.ndarray, kind: np.ndarray, number: int) -> float | None:
    """Return the AUC of one kind of unusual objects against the ordinary ones; None if there is none of them."""
    part = (kind == 0) | (kind == number)
    return float(roc_auc_score(kind[part] > 0, score[part])) if (kind == number).any() else None


def table(record: dict[str, Any]) -> str:
    """Return the results of one seed as text."""
    lines = [f"\nseed {record['seed']}: {record['num_unusual']} unusual among {record['num_objects']:,} objects"]
    lines.append(f"{'':24}{'AUC':>7}{'95 %':>17}{'AP':>8}{'95 %':>17}   AUC by kind")
    for name, values in record["scores"].items():
        intervals = [f"({low:.3f} to {high:.3f})" for low, high in (values["auc_95"], values["ap_95"])]
        kinds = "  ".join("   -" if value is None else f"{value:.2f}" for value in values["auc_of_kinds"])
        lines.append(
            f"{name:24}{values['auc']:7.3f} {intervals[0]:>17}{values['ap']:7.3f} {intervals[1]:>17}   {kinds}"
        )
    lines.append("kinds: " + ", ".join(UNUSUAL_KINDS[1:]))
    shares = [f"{p}: {share:.4f}" for p, share in record["false_alarms"].items()]
    lines.append(f"share of ordinary objects at a nominal false-alarm probability of {', '.join(shares)}")
    shares = [f"{p}: {share:.2f}" for p, share in record["found"].items()]
    lines.append(f"share of unusual objects there                                    {', '.join(shares)}")
    for number, values in record["others"].items():
        alarms, before = (100 * np.array(values[name]) for name in ("alarms", "before"))
        lines.append(
            f"others compared with {number:>4} objects: AUC {values['auc']:.3f}; ordinary ones at a nominal 1 %: "
            f"{alarms.mean():.2f} % ({alarms.min():.2f} to {alarms.max():.2f} in {len(alarms)} draws); "
            f"without leaving out: {before.mean():.2f} % ({before.min():.2f} to {before.max():.2f})"
        )
    return "\n".join(lines)


def summary(records: list[dict[str, Any]]) -> str:
    """Return whether the score passes its bar in each seed."""
    values = [record["scores"]["both: ANOMALY_SCORE"] for record in records]
    passed = all(value["auc"] >= AUC_BAR and value["ap"] >= AP_BAR for value in values)
    auc, ap = ([value[name] for value in values] for name in ("auc", "ap"))
    verdict = "passed" if passed else "NOT passed"
    alarms = [record["false_alarms"]["0.01"] for record in records]
    return (
        f"\n{len(records)} seeds: AUC {min(auc):.3f} to {max(auc):.3f} (bar {AUC_BAR}), AP {min(ap):.3f} to "
        f"{max(ap):.3f} (bar {AP_BAR}), {verdict}; false alarms at 0.01: {min(alarms):.4f} to {max(alarms):.4f}"
    )


if __name__ == "__main__":
    main()
