"""How often the intervals of ``hpctrain validate`` contain the truth, and how long they take.

python benchmarks/validation_intervals.py                  coverage of each metric, for several numbers of objects
python benchmarks/validation_intervals.py --speed          time and memory for 50,000 objects and 1,000 draws

Each repeat simulates the held-out predictions of a new sample and asks whether each interval contains the value of the
whole population, which 1.2 million simulated objects give. In the clustered samples an object has one to five rows that
share errors. ``*`` means that at least half of the intervals carry a remark that they need care.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.validation.intervals import intervals
from hpctrain.validation.tasks.anomalies import anomaly_task
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.clusters import cluster_task
from hpctrain.validation.tasks.spectra import spectra_task
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.tasks.values import CIRCULAR, REDSHIFT, VALUE, number_task

SAMPLES = ((100, False), (300, False), (1000, False), (300, True))
"""Numbers of objects, and whether they have several rows each."""
POPULATION, PARTS = 150_000, 8
TARGET, TOLERANCE = 95.0, 1.5

Made = tuple[Task, np.ndarray]


def objects_of(num: int, rng: np.random.Generator, clustered: bool) -> np.ndarray:
    """Return the object of each row."""
    return np.repeat(np.arange(num), rng.integers(1, 6, num)) if clustered else np.arange(num)


def redshifts(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate redshifts with a normal core, 5 % of catastrophic errors, and densities that are a little too wide."""
    own = objects_of(num, rng, clustered)
    true = rng.gamma(2.0, 0.2, num)[own]
    noise = rng.normal(size=len(own))
    shared = 0.012 * rng.normal(size=num)[own] if clustered else 0.0
    residual = 0.004 + shared + 0.02 * np.exp(0.3 * rng.normal(size=num))[own] * noise
    is_wrong, far = rng.random(num) < 0.05, 0.05 + 0.3 * rng.normal(size=num)
    residual = np.where(is_wrong[own], far[own] + 0.02 * noise, residual)
    width = 0.022
    pull = residual / width
    below, density = stats.norm.cdf(pull), stats.norm.pdf(pull)
    columns = {
        "PIT": 1 - below,
        "CRPS": width * (pull * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi)),
        "NLL": np.minimum(0.5 * pull**2 + np.log(width) + 0.5 * np.log(2 * np.pi), 20.0),
        "CDE_LOSS": 1 / (2 * width * np.sqrt(np.pi)) - 2 * density / width,
    }
    return number_task("z", REDSHIFT, true, true + residual * (1 + true), columns=columns), own


def values(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate values with errors of Student's t distribution with 5 degrees of freedom."""
    own = objects_of(num, rng, clustered)
    true = rng.normal(5, 1, num)[own]
    shared = 0.2 * rng.normal(size=num)[own] if clustered else 0.0
    predicted = 0.9 * true + 0.5 + 0.3 * rng.standard_t(5, len(own)) + shared
    return number_task("v", VALUE, true, predicted, outlier=1.0), own


def angles(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate angles with errors of a von Mises distribution."""
    own = objects_of(num, rng, clustered)
    true = rng.uniform(0, 360, num)[own]
    shared = 20 * rng.normal(size=num)[own] if clustered else 0.0
    residual = np.degrees(rng.vonmises(0.05, 4, len(own))) + shared
    return number_task("a", CIRCULAR, true, (true + residual) % 360, unit="deg", period=360.0), own


def classes(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate three classes with shares of 60, 30 and 10 %."""
    own, share = objects_of(num, rng, clustered), np.array([0.6, 0.3, 0.1])
    true = rng.choice(3, num, p=share)[own]
    seen = rng.normal(size=(len(own), 3)) + (rng.normal(size=(num, 3))[own] if clustered else 0.0)
    seen[np.arange(len(own)), true] += 2.2
    weight = np.exp(1.3 * seen) * share
    probability = weight / weight.sum(axis=1, keepdims=True)
    return class_task("c", ("60 %", "30 %", "10 %"), true, probability.argmax(axis=1), probability), own


def anomalies(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate scores of which one tenth of the objects are unusual."""
    own = objects_of(num, rng, clustered)
    is_unusual = (rng.random(num) < 0.1)[own]
    score = rng.normal(size=len(own)) + 1.8 * is_unusual + (0.7 * rng.normal(size=num)[own] if clustered else 0.0)
    return anomaly_task(score, is_unusual, np.ones(len(own), dtype=bool)), own


def clusters(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate four clusters that agree with three classes for 80 % of the objects."""
    own = objects_of(num, rng, clustered)
    label = rng.choice(3, num, p=[0.5, 0.3, 0.2])[own]
    guess = np.where((rng.random(num) < 0.5)[own] & (label == 0), 3, label)
    wrong = (rng.random(num) < 0.2)[own] if clustered else rng.random(len(own)) < 0.2
    guess = np.where(wrong, rng.integers(0, 4, len(own)), guess)
    return cluster_task(guess, np.array([b"a", b"b", b"c"])[label], np.ones(len(own), dtype=bool), None), own


def spectra(num: int, rng: np.random.Generator, clustered: bool) -> Made:
    """Simulate spectra of which 10 % are fitted worse than the noise allows."""
    own = objects_of(num, rng, clustered)
    pixels = rng.integers(300, 500, num)[own]
    excess = np.where(rng.random(num) < 0.1, rng.gamma(1.0, 0.5, num), 0.02)[own]
    reduced = (1 + excess) * rng.chisquare(pixels) / pixels
    columns = {"RECON_MSE": reduced, "NUM_PIXELS": pixels, "STATUS": np.zeros(len(own))}
    return spectra_task(columns, None), own


KINDS: dict[str, Callable[[int, np.random.Generator, bool], Made]] = {
    each.__name__: each for each in (redshifts, values, angles, classes, anomalies, clusters, spectra)
}


@cache
def truth_of(kind: str, clustered: bool) -> dict[str, float]:
    """Return the metrics of the population."""
    rng, found = np.random.default_rng(99), {}
    for _ in range(PARTS):
        task, _own = KINDS[kind](POPULATION, rng, clustered)
        for metric in task.metrics:
            found.setdefault(metric.name, []).append(task.score(metric.name))
    return {name: float(np.mean(values)) for name, values in found.items()}


def coverage(kind: str, num: int, clustered: bool, repeats: int, draws: int) -> dict[str, tuple[float, float]]:
    """Return how often each interval contains the truth, and how often it has a remark [%]."""
    truth, held, marked, asked = truth_of(kind, clustered), {}, {}, {}
    for repeat in range(repeats):
        task, own = KINDS[kind](num, np.random.default_rng([repeat, num]), clustered)
        names = [metric.name for metric in task.metrics if _has_population(metric.name)]
        for name, score in intervals(task, names, own, draws=draws, seed=repeat).items():
            if not np.isfinite(score.value):
                continue
            asked[name] = asked.get(name, 0) + 1
            held[name] = held.get(name, 0) + (score.low <= truth[name] <= score.high)
            marked[name] = marked.get(name, 0) + bool(score.note)
    return {name: (100 * held[name] / asked[name], 100 * marked[name] / asked[name]) for name in asked}


def _has_population(name: str) -> bool:
    """Return whether a metric has a value of the population; a recall at a number of objects depends on the number."""
    return not name.startswith("recall_")


def print_coverage(kinds: list[str], repeats: int, draws: int) -> None:
    """Print a table for each kind as Markdown, and what is outside 95 +- 1.5 % without a remark."""
    outside = []
    for kind in kinds:
        columns = [coverage(kind, num, clustered, repeats, draws) for num, clustered in SAMPLES]
        heads = [f"{num}{' in clusters' if clustered else ''}" for num, clustered in SAMPLES]
        print(f"\n| {kind} | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
        for name in columns[-1]:
            cells = [_cell(column.get(name)) for column in columns]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            for head, column in zip(heads, columns, strict=True):
                if name in column and abs(column[name][0] - TARGET) > TOLERANCE and column[name][1] < 50:
                    outside.append(f"{kind} {name} at {head}: {column[name][0]:.1f} %")
    print(f"\nwithout a remark outside {TARGET:g} +- {TOLERANCE:g} %:", *(outside or ["none"]), sep="\n  ")


def _cell(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"{found[0]:.1f}{'*' if found[1] >= 50 else ''}"


def print_speed(num: int = 50_000, draws: int = 1000, peers: int = 10) -> None:
    """Print time and memory of all metrics of redshifts, beside drawing the rows and computing each metric anew."""
    task, own = redshifts(num, np.random.default_rng(0), False)
    names = [metric.name for metric in task.metrics]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    intervals(task, names, own, draws=draws)
    seconds = time.process_time() - start
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rng, start = np.random.default_rng(0), time.process_time()
    for _ in range(peers):
        plain_metrics(task, rng.integers(num, size=num))
    plain = (time.process_time() - start) * draws / peers
    print(f"{num:,} objects, {draws:,} draws, {len(names)} metrics of redshifts: {seconds:.1f} s of CPU time")
    print(f"  {plain / seconds:.1f} times as fast as numpy on drawn rows; {extra:.0f} MiB more memory")


def plain_metrics(task: Task, rows: np.ndarray) -> None:
    """Compute what the metrics of redshifts are with numpy, on drawn rows."""
    residual = task.arrays["residual"][rows]
    middle = np.median(residual)
    _ = 1.4826 * np.median(np.abs(residual - middle)), residual.mean(), residual.std(), np.sqrt((residual**2).mean())
    size = np.abs(residual)
    _ = size.mean(), *(np.mean(size > limit) for limit in (0.15, 0.05, 1000 / 299792.458, 3000 / 299792.458))
    for name in ("crps", "log_loss", "cde_loss"):
        task.statistic(name).values[rows].mean()
    pit = np.sort(task.statistic("pit_ks").sorted.values[rows])
    np.abs(pit - np.arange(1, len(pit) + 1) / len(pit)).max()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--speed", action="store_true", help="measure time and memory instead")
    args = parser.parse_args()
    warnings.simplefilter("error")
    if args.speed:
        print_speed()
    else:
        print_coverage(args.kinds, args.repeats, args.draws)


if __name__ == "__main__":
    main()
