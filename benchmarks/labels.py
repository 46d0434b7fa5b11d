"""Compare labels of held-out spectra by spectral_cnn, a random forest on PCA scores, and the nearest template.

    python -m benchmarks.labels --shared FOLDER [--only stars supernovae sdss redshift] [--seeds 3] [--set a.b=VALUE]

All methods see the same training objects with the same normalisation, and are judged on the same objects, which neither
training, early stopping nor calibration has seen. Each seed is another split by object and another start. Scores are
means over the seeds; the intervals (95 %) are from a bootstrap over objects, and so is that of the difference between
ours and the better of the other two. hpctrain itself trains the network (``python -m hpctrain.train``) on the CPU.

The nearest template is the training spectrum with the lowest chi-square for a free amplitude. For redshifts there are
no rows of the others: a template at another redshift is no template.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from benchmarks import labels_data
from hpctrain.families.labels.scores import class_scores, value_scores
from hpctrain.families.store import load_model
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.yaml_text import parse_value
from hpctrain.rundir import RunDir, write_json
from hpctrain.samples.split import TEST, assign_split

OURS, FOREST, NEAREST = "spectral_cnn", "forest on PCA", "nearest template"
NUM_COMPONENTS, NUM_TREES, NUM_DRAWS = 30, 300, 1000


@dataclass(frozen=True)
class Task:
    """One data set with its labels.

    Parameters
    ----------
    make : callable
        Writes the file.
    model, data, train : dict
        Sections of the profile.
    shown : dict
        Scores to show of each label, the first one first.
    has_rivals : bool
        Whether the other methods make sense.
    """

    make: Callable[[argparse.Namespace], Path]
    model: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    shown: tuple[str, ...] = ("accuracy", "macro_f1")
    has_rivals: bool = True


NETWORK = {"family": "spectral_cnn", "channels": [16, 32, 32], "kernels": [9, 7, 7], "pool": 3, "regions": 64}
TASKS = {
    "stars": Task(
        lambda args: labels_data.miles(args.shared, args.folder / "stars.h5"),
        {
            **NETWORK,
            "hidden": [64],
            "dropout": 0.1,
            "labels": [
                {"column": "teff", "kind": "value", "log10": True},
                {"column": "logg", "kind": "value"},
                {"column": "feh", "kind": "value"},
            ],
        },
        {"augment": {"noise": 1.0}},
        {"batch_size": 32, "max_steps": 1000},
        ("nmad", "rmse", "bias", "outliers"),
    ),
    "supernovae": Task(
        lambda args: labels_data.supernovae(args.shared, args.folder / "supernovae.h5"),
        {
            **NETWORK,
            "hidden": [64],
            "dropout": 0.3,
            "labels": [{"column": "type", "kind": "class"}, {"column": "subtype", "kind": "class"}],
        },
        {"normalise": {"by": "none"}, "augment": {"noise": 1.0, "mask_fraction": 0.2}},
        {"batch_size": 64, "max_steps": 1000},
    ),
    "sdss": Task(
        lambda args: labels_data.sdss(args.shared, args.folder / "sdss.h5"),
        {
            **NETWORK,
            "hidden": [32],
            "dropout": 0.3,
            "labels": [
                {"column": "spectype", "kind": "class"},
                {"column": "subclass", "kind": "class", "min_count": 3},
            ],
        },
        {"augment": {"noise": 0.5, "mask_fraction": 0.2}},
        {"batch_size": 16, "max_steps": 400},
    ),
    "redshift": Task(
        lambda args: labels_data.simulated(args.folder / "simulated.h5", args.num_simulated),
        {
            **NETWORK,
            "pool": 2,
            "regions": 128,
            "hidden": [128],
            "labels": [
                {
                    "column": "true_redshift",
                    "name": "z",
                    "kind": "density",
                    "range": [0.0, 5.0],
                    "bins": 1024,
                    "spacing": "log1p",
                    "outlier": 0.003,
                },
                {"column": "spectype", "kind": "class"},
            ],
        },
        train={"batch_size": 64, "max_steps": 1500},
        shown=("nmad", "outliers", "rmse", "bias", "accuracy"),
        has_rivals=False,
    ),
}


def main() -> None:
    """Train, compare, print, and write ``results.json``."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    everything: dict[str, Any] = {}
    for name in args.only:
        task = TASKS[name]
        path = task.make(args)
        parts = [
            compare(task, train(args, name, task, path, seed), path, args.held_out, seed) for seed in range(args.seeds)
        ]
        everything[name] = {}
        for label in task.model["labels"]:
            title = label.get("name") or label["column"]
            found = summarise([part[title] for part in parts], label, task)
            everything[name][title] = found
            print(table(name, title, found), flush=True)
    write_json(args.folder / "results.json", everything)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("HPCTRAIN_SHARED")
    parser.add_argument("--shared", type=Path, default=shared, help="folder with the public files ($HPCTRAIN_SHARED)")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-labels"), help="where all goes")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="data sets (all)")
    parser.add_argument("--seeds", type=int, default=3, help="splits and starts (3)")
    parser.add_argument("--held-out", type=float, default=0.25, help="share of objects to judge on (0.25)")
    parser.add_argument("--num-simulated", type=int, default=20000, help="spectra to simulate for redshifts (20000)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="change the profile")
    args = parser.parse_args()
    if args.shared is None and args.only != ["redshift"]:
        parser.error("--shared FOLDER is needed for all but --only redshift")
    return args


def train(args: argparse.Namespace, name: str, task: Task, path: Path, seed: int) -> RunDir:
    """Train one network with one rank on this machine, as ``srun`` would."""
    split = {"validation": 0.1, "test": args.held_out, "salt": f"labels-{seed}"}
    steps = {
        "epochs": 1000000,
        "learning_rate": 2e-3,
        "warmup_steps": 50,
        "evaluate_every_steps": 200,
        "log_every_steps": 50,
    }
    settings: dict[str, Any] = {
        "name": name,
        "launch": {"gpus_per_node": 0},
        "data": {"files": [str(path.absolute())], "split": split, "implausible": "warn", **task.data},
        "model": task.model,
        "train": {**steps, "seed": seed + 1, **task.train},
        "checkpoint": {"every_steps": 500, "keep_last": 1},
        "track": {"tensorboard": False},
    }
    for text in args.set:
        key, value = text.split("=", 1)
        section, entry = key.split(".", 1)
        settings[section] = {**settings[section], entry: parse_value(value)}
    run = RunDir.create(args.folder, f"{name}-{seed}")
    run.profile.write_text(dump_profile(profile_of(settings)))
    start = time.monotonic()
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    print(f"{name}, seed {seed}: trained in {time.monotonic() - start:.0f} s, {run.path}", flush=True)
    return run


def compare(task: Task, run: RunDir, path: Path, held_out: float, seed: int) -> dict[str, dict[str, Any]]:
    """Return, for each label, objects, truth and the predictions of each method for the spectra to judge on."""
    from hpctrain.profile.load import load_profile

    profile = load_profile(run.profile)
    model, card = load_model(run.path)
    family, kind = family_of(profile), kind_of(profile)
    samples = kind.open(profile.data)
    section = family.section.model_validate_json(_json(card["section"]))
    samples.labels = family.labels(section, samples)
    side = assign_split(samples.target_id, profile.data.split)
    judged, known = np.flatnonzero(side == TEST), np.flatnonzero(side != TEST)
    parts = [
        family.predictions(model, card, samples.read(judged[start : start + 256]))
        for start in range(0, len(judged), 256)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    prepare = kind.preparation(card)
    rivals = _Rivals(prepare(samples.read(known)), prepare(samples.read(judged))) if task.has_rivals else None
    found = {}
    for label in section.labels:
        title = label.title
        is_class = label.kind == "class"
        values = samples.labels[title]
        true, there = values[judged], values[known]
        has, usable = (true >= 0, there >= 0) if is_class else (np.isfinite(true), np.isfinite(there))
        names = np.array(label.classes) if is_class else None
        predicted = {OURS: columns[f"{title}_PRED"][has]}
        if rivals is not None:
            predicted |= rivals.predict(there, usable, has, is_class, label.log10)
        if names is not None:
            predicted = {
                method: np.char.decode(each) if each.dtype.kind == "S" else names[each]
                for method, each in predicted.items()
            }
        truth = names[true[has]] if names is not None else true[has].astype(np.float64)
        extra = {
            name: columns[f"{title}_{name}"][has] for name in ("PIT", "PULL", "PROB") if f"{title}_{name}" in columns
        }
        found[title] = {
            "objects": samples.target_id[judged][has],
            "true": truth,
            "predicted": predicted,
            "extra": extra,
        }
    return found


def _json(values: Any) -> str:
    import json

    return json.dumps(values)


class _Rivals:
    """Random forest on PCA scores, and the nearest template.

    Parameters
    ----------
    known, judged : SpectraBatch
        Normalised spectra to learn from, and to judge on.
    """

    def __init__(self, known: Any, judged: Any) -> None:
        self.known, self.judged = known.flux.numpy(), judged.flux.numpy()
        middle = self.known.sum(axis=0) / np.maximum((known.ivar.numpy() > 0).sum(axis=0), 1)
        filled = [np.where(batch.ivar.numpy() > 0, batch.flux.numpy(), middle) for batch in (known, judged)]
        pca = PCA(min(NUM_COMPONENTS, len(filled[0]) - 1), random_state=0).fit(filled[0])
        self.scores = [pca.transform(each) for each in filled]
        weight = judged.ivar.numpy()
        # chi-square of a template t with the best amplitude is sum w x^2 - (sum w x t)^2 / sum w t^2
        across = (weight * self.judged) @ self.known.T
        self.gain = across * np.abs(across) / np.maximum(weight @ (self.known**2).T, 1e-30)

    def predict(
        self, there: np.ndarray, usable: np.ndarray, has: np.ndarray, is_class: bool, log10: bool
    ) -> dict[str, np.ndarray]:
        """Return the predictions of both for the judged spectra where `has`, from labels `there` where `usable`."""
        target = np.log10(there[usable]) if log10 else there[usable]
        maker = RandomForestClassifier if is_class else RandomForestRegressor
        forest = maker(NUM_TREES, random_state=0, n_jobs=1).fit(self.scores[0][usable], target)
        by_forest = forest.predict(self.scores[1][has])
        nearest = self.gain[np.ix_(has, usable)].argmax(axis=1)
        return {FOREST: 10**by_forest if log10 else by_forest, NEAREST: there[usable][nearest]}


def summarise(parts: list[dict[str, Any]], label: dict[str, Any], task: Task) -> dict[str, Any]:
    """Return scores with intervals of each method, and of the difference to the better rival in the first score."""
    is_class = label["kind"] == "class"

    def scores(method: str, part: dict[str, Any], rows: np.ndarray) -> dict[str, float]:
        true, predicted = part["true"][rows], part["predicted"][method][rows]
        if is_class:
            return class_scores(predicted, true)
        apart = predicted - true
        apart = apart / (1 + true) if label.get("spacing") == "log1p" else apart
        return value_scores(apart, label.get("outlier"))

    def means(method: str, draws: list[np.ndarray]) -> dict[str, float]:
        each = [scores(method, part, rows) for part, rows in zip(parts, draws, strict=True)]
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]}

    methods = list(parts[0]["predicted"])
    whole = [np.arange(len(part["true"])) for part in parts]
    rng = np.random.default_rng(0)
    drawn = [[_draw(part["objects"], rng) for part in parts] for _ in range(NUM_DRAWS // 5)]
    shown = [name for name in task.shown if name in scores(OURS, parts[0], whole[0])]
    found: dict[str, Any] = {"num": sum(map(len, whole)), "seeds": len(parts), "shown": shown, "methods": {}}
    boot = {method: [means(method, draws) for draws in drawn] for method in methods}
    for method in methods:
        value = means(method, whole)
        ends = {name: np.quantile([each[name] for each in boot[method]], [0.025, 0.975]).tolist() for name in shown}
        found["methods"][method] = {name: [value[name], *ends[name]] for name in shown}
    if len(methods) > 1:
        found["differences"] = {name: _difference(boot, found["methods"], name) for name in shown}
    pulls = [np.abs(part["extra"]["PULL"]) < 1 for part in parts if "PULL" in part["extra"]]
    if pulls:
        found["within_one_sigma"] = float(np.mean(np.concatenate(pulls)))
    return found


def _difference(boot: dict[str, Any], methods: dict[str, Any], name: str) -> list[Any]:
    """Return the better rival in a score, and ours minus it with its interval."""
    sign = 1 if name in ("accuracy", "macro_f1", "balanced_accuracy") else -1
    rival = max(
        (method for method in methods if method != OURS), key=lambda method: sign * abs(methods[method][name][0])
    )
    apart = [abs(ours[name]) - abs(theirs[name]) for ours, theirs in zip(boot[OURS], boot[rival], strict=True)]
    middle = abs(methods[OURS][name][0]) - abs(methods[rival][name][0])
    return [rival, middle, *np.quantile(apart, [0.025, 0.975]).tolist()]


def _draw(objects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of as many objects as there are, drawn with replacement."""
    _, number = np.unique(objects, return_inverse=True)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(number.max() + 2))
    chosen = rng.integers(number.max() + 1, size=number.max() + 1)
    return np.concatenate([order[starts[each] : starts[each + 1]] for each in chosen])


def table(name: str, title: str, found: dict[str, Any]) -> str:
    """Return the scores of a label as text."""
    lines = [f"\n{name}, {title}: {found['num']} spectra to judge on in {found['seeds']} splits"]
    lines.append(f"{'':18}" + "".join(f"{score:>30}" for score in found["shown"]))
    for method, scores in found["methods"].items():
        cells = [f"{v:.4g} ({low:.4g} to {high:.4g})" for v, low, high in (scores[score] for score in found["shown"])]
        lines.append(f"{method:18}" + "".join(f"{cell:>30}" for cell in cells))
    for score, (rival, middle, low, high) in found.get("differences", {}).items():
        lines.append(f"  ours minus {rival}, {score}: {middle:+.4g} ({low:+.4g} to {high:+.4g})")
    if "within_one_sigma" in found:
        lines.append(f"  within one calibrated sigma: {found['within_one_sigma']:.3f} (0.683 is right)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
