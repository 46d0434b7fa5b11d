"""False alarms and power of the tests that ``hpctrain compare`` makes, on simulated predictions with known truth.

    python -m benchmarks.validation_tests [--repeats 1000] [--draws 499] [--only objects rows sky folds power]

Two models of equal quality judge the same rows. A test at the level 5 % may find a difference in 5 % of the repeats.
Rows are independent objects; several rows of an object; or objects in cells of the sky whose calibration differs.
Beside each test stands what it does if groups are ignored. Pure numpy, ten minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.validation.comparison.difference import Difference, compare_tasks
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.comparison.repeated import corrected_resampled_t
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.tasks.values import number_task

LEVEL = 0.05
REDSHIFT = ("bias", "mean_bias", "nmad", "rmse", "mae", "outliers_0.05")
CLASSES = ("accuracy", "macro_f1", "log_loss", "completeness.B", "purity.B", "roc_auc.B")
NAIVE = ("mean_bias", "rmse", "mae", "accuracy", "log_loss")
"""Metrics that are also tested as if every row were independent."""


def independent(_: np.random.Generator, num: int) -> np.ndarray:
    """Return groups of one row each, (R,)."""
    return np.arange(num)


def repeated_rows(rng: np.random.Generator, num: int) -> np.ndarray:
    """Return objects with one to five rows, (R,)."""
    counts = rng.integers(1, 6, num)
    return np.repeat(np.arange(num), counts)[:num]


def cells(rng: np.random.Generator, num: int) -> np.ndarray:
    """Return 60 cells of the sky with very different numbers of objects, (R,)."""
    share = rng.lognormal(0.0, 0.7, 60)
    return rng.choice(60, num, p=share / share.sum())


GROUPS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], int, float]] = {
    "objects": (independent, 500, 0.0),
    "rows": (repeated_rows, 600, 0.8),
    "sky": (cells, 900, 0.4),
}
"""Name to how rows are grouped, number of rows, and scatter of the groups in that of the rows."""


def residuals(rng: np.random.Generator, group: np.ndarray, spread: float, scale: float) -> np.ndarray:
    """Return residuals of one model, (R,): of the group, of the row, and some far off."""
    own = rng.standard_t(4, len(group)) + spread * rng.normal(size=group.max() + 1)[group]
    return 0.02 * scale * own


def redshift_pair(
    rng: np.random.Generator, group: np.ndarray, spread: float, scale: float, unlike: bool = False
) -> tuple[Task, Task]:
    """Return two models of a redshift whose errors are correlated; the second has `scale` times the scatter.

    With `unlike` the second model has the first one's mean absolute error, and another distribution.
    """
    z = rng.uniform(0.0, 1.0, len(group))
    common = residuals(rng, group, spread, 1.0)
    errors = [common + residuals(rng, group, spread, 1.0), scale * (common + residuals(rng, group, spread, 1.0))]
    if unlike:
        errors = [rng.normal(0.0, 0.02, len(group)), rng.laplace(0.0, 0.02 * np.sqrt(2 / np.pi), len(group))]
    return tuple(number_task("Z", "redshift", z, z + error * (1 + z)) for error in errors)  # type: ignore[return-value]


def class_pair(rng: np.random.Generator, group: np.ndarray, spread: float, scale: float) -> tuple[Task, Task]:
    """Return two classifiers of three unequal classes; `scale` divides what the second one knows."""
    true = rng.choice(3, len(group), p=[0.6, 0.3, 0.1])
    common = rng.normal(size=(len(group), 3))
    tasks = []
    for factor in (1.0, 1.0 / scale):
        shift = spread * rng.normal(size=(group.max() + 1, 3))[group]
        logits = 2.0 * factor * np.eye(3)[true] + 0.7 * common + 0.7 * rng.normal(size=common.shape) + shift
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        tasks.append(class_task("type", ("A", "B", "C"), true, chance.argmax(axis=1), chance))
    return tasks[0], tasks[1]


def found(
    kind: str, repeats: int, draws: int, scale: float = 1.0, unlike: bool = False
) -> Iterator[tuple[dict[str, Difference], dict[str, Difference]]]:
    """Yield the differences of each repeat, with groups and with every row for itself."""
    make, num, spread = GROUPS[kind]
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, 7])
        group = make(rng, num)
        both: list[dict[str, Difference]] = [{}, {}]
        pairs = [(redshift_pair(rng, group, spread, scale, unlike), REDSHIFT)]
        if not unlike:
            pairs.append((class_pair(rng, group, spread, scale), CLASSES))
        for pair, names in pairs:
            both[0] |= compare_tasks(*pair, names, group, draws, seed=repeat)
            if kind != "objects":
                cheap = [name for name in names if name in NAIVE]
                both[1] |= compare_tasks(*pair, cheap, np.arange(num), draws, seed=repeat)
        yield both[0], both[1]


def percent(hits: list[bool]) -> str:
    """Return a share of repeats with its standard error, in per cent."""
    share = float(np.mean(hits))
    return f"{100 * share:5.1f} ± {100 * np.sqrt(share * (1 - share) / len(hits)):.1f}"


def false_alarms(kind: str, repeats: int, draws: int) -> Iterator[str]:
    """Yield lines about tests of equal models."""
    all_found = list(found(kind, repeats, draws))
    yield f"{kind}: false alarms at 5 % [%], coverage of the 95 % interval [%], and with groups ignored [%]"
    names = list(all_found[0][0])
    for name in names:
        own = [grouped[name] for grouped, _ in all_found]
        alarms = percent([each.p < LEVEL for each in own])
        covered = percent([each.low <= 0 <= each.high for each in own])
        naive = percent([rows[name].p < LEVEL for _, rows in all_found]) if name in all_found[0][1] else ""
        yield f"  {name:<16} {own[0].test:<18} {alarms}   {covered}   {naive}"
        if np.isfinite(own[0].signed_rank):
            yield f"  {name:<16} {'signed rank':<18} {percent([each.signed_rank < LEVEL for each in own])}"
    adjusted = [holm(np.array([grouped[name].p for name in names])).min() < LEVEL for grouped, _ in all_found]
    plain = [min(grouped[name].p for name in names) < LEVEL for grouped, _ in all_found]
    yield f"  any of {len(names)} metrics: {percent(plain)} without a correction, {percent(adjusted)} with Holm's"


def unlike(repeats: int, draws: int) -> Iterator[str]:
    """Yield lines about models of the same mean absolute error with different distributions."""
    own = [grouped["mae"] for grouped, _ in found("objects", repeats, draws, unlike=True)]
    yield "equal mean absolute error, normal and Laplace residuals: false alarms of the bootstrap at 5 % [%]"
    yield f"  mae {percent([each.p < LEVEL for each in own])}"


def power(repeats: int, draws: int) -> Iterator[str]:
    """Yield lines about a second model with 5, 10 and 20 per cent more scatter, or that much less knowledge."""
    yield "power at 5 % [%] for independent objects, and what was promised: 80 % at the difference"
    for scale in (1.05, 1.1, 1.2):
        all_found = [grouped for grouped, _ in found("objects", repeats, draws, scale)]
        for name in all_found[0]:
            own = [each[name] for each in all_found]
            hits = percent([each.p < LEVEL for each in own])
            mean = np.mean([each.value for each in own])
            seen = np.median([each.detectable for each in own])
            ranks = [each.signed_rank < LEVEL for each in own]
            extra = f"   signed rank {percent(ranks)}" if np.isfinite(own[0].signed_rank) else ""
            yield f"  x {scale:<4g} {name:<16} {hits}   difference {mean:+.4f}, seen with 80 % {seen:.4f}{extra}"


def folds(repeats: int) -> Iterator[str]:
    """Yield lines about equal linear models with ten random splits of the same objects."""
    alarms: dict[str, list[bool]] = {"corrected": [], "not corrected": []}
    splits, num, held = 10, 200, 20
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, 11])
        inputs = [rng.normal(size=(num, 8)) for _ in range(2)]  # each model sees half of what matters
        truth = sum(each @ np.full(8, 0.3) for each in inputs) + rng.normal(size=num)
        differences = []
        for _ in range(splits):
            order = rng.permutation(num)
            test, train = order[:held], order[held:]
            errors = [
                np.mean((each[test] @ np.linalg.lstsq(each[train], truth[train], rcond=None)[0] - truth[test]) ** 2)
                for each in inputs
            ]
            differences.append(errors[1] - errors[0])
        values = np.array(differences)
        alarms["corrected"].append(corrected_resampled_t(values, held / num).p < LEVEL)
        alarms["not corrected"].append(corrected_resampled_t(values, 1e-12).p < LEVEL)
    yield f"folds: false alarms of the t test over {splits} random splits at 5 % [%]"
    for name, hits in alarms.items():
        yield f"  {name:<16} {percent(hits)}"


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation_tests", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated comparisons (default: 1000)")
    parser.add_argument("--draws", type=int, default=499, help="bootstrap draws of each (default: 499)")
    parser.add_argument("--only", nargs="+", choices=[*GROUPS, "unlike", "folds", "power"], help="parts (default: all)")
    args = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[str]]] = {
        **{kind: lambda kind=kind: false_alarms(kind, args.repeats, args.draws) for kind in GROUPS},  # type: ignore[misc]
        "unlike": lambda: unlike(args.repeats, args.draws),
        "folds": lambda: folds(args.repeats),
        "power": lambda: power(max(1, args.repeats // 4), args.draws),
    }
    for name, part in parts.items():
        if args.only is None or name in args.only:
            print("\n".join(part()), flush=True)


if __name__ == "__main__":
    main()
