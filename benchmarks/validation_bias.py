"""Are bins flagged by chance as rarely as promised, and where there is a difference? Simulated predictions, no model.

    python -m benchmarks.validation_bias [--only clean unequal objects sky power intervals reweighted] [--repeats 1000]

clean: residuals of Student's t with 4 degrees of freedom, the same in all bins; any flag in a set is a false alarm.
unequal: bins differ in scatter, not in bias; any flag of a bias is a false alarm.
objects: clean, with three rows per object that share most of their residual.
sky: clean, on the sky; and a sky with a bias in one cell.
power: one bin of twelve with a bias, in units of the scatter; how often it is flagged.
intervals: how often the intervals of bias and scatter in a bin cover the true values.
reweighted: how often intervals for a fainter population cover its true mean residual and root mean square.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hpctrain.validation.bias.density_ratio import density_ratio
from hpctrain.validation.bias.difference import difference
from hpctrain.validation.bias.influence import influence
from hpctrain.validation.bias.judge import LEVEL, is_tested
from hpctrain.validation.bias.restricted import restricted_task
from hpctrain.validation.bias.sky import variation
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.intervals import intervals
from hpctrain.validation.tasks.values import REDSHIFT, number_task

SCATTER = 0.02
NUM = 800
DRAWS = 400


def make_task(rng: np.random.Generator, residual: np.ndarray):
    """Return a task of redshifts with these residuals."""
    true = rng.uniform(0.05, 1.0, len(residual))
    return number_task("Z", REDSHIFT, true, true + residual * (1 + true))


def bins_of(rng: np.random.Generator, num: int) -> list[np.ndarray]:
    """Return the rows of twelve bins: quintiles, quarters, and three surveys, the smallest with 5 % of the objects."""
    found = []
    for number in (5, 4):
        place = rng.permutation(num) * number // num
        found += [place == each for each in range(number)]
    survey = np.searchsorted([0.05, 0.3], rng.uniform(size=num))
    return found + [survey == each for each in range(3)]


def p_values(task, target_id: np.ndarray, bins: list[np.ndarray], only: str | None = None, seed: int = 0) -> np.ndarray:
    """Return the p values of all tested metrics in all bins, (M, B)."""
    names = [metric.name for metric in task.metrics if is_tested(task, metric, "r") and only in (None, metric.name)]
    return np.array([[difference(task, name, target_id, part, DRAWS, seed).p for part in bins] for name in names])


def clean(rng: np.random.Generator) -> np.ndarray:
    """Return the p values of a set in which all bins are alike."""
    task = make_task(rng, SCATTER * rng.standard_t(4, NUM))
    return p_values(task, np.arange(NUM), bins_of(rng, NUM))


def unequal(rng: np.random.Generator) -> np.ndarray:
    """Return the p values of the bias of a set whose bins differ in scatter alone."""
    bins = bins_of(rng, NUM)
    scale = SCATTER * np.where(bins[4], 3.0, np.where(bins[9], 0.4, 1.0))
    return p_values(make_task(rng, scale * rng.standard_t(4, NUM)), np.arange(NUM), bins, "bias")


def objects(rng: np.random.Generator) -> np.ndarray:
    """Return the p values of a set in which all bins are alike and each object has three rows."""
    target_id = np.repeat(np.arange(NUM // 3), 3)
    residual = SCATTER * (rng.standard_t(4, NUM // 3)[target_id] + 0.5 * rng.normal(size=len(target_id)))
    of_object = bins_of(rng, NUM // 3)
    return p_values(make_task(rng, residual), target_id, [part[target_id] for part in of_object])


def power(shift: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Return what makes the p values of a set with one bin whose bias is so many scatters."""

    def one(rng: np.random.Generator) -> np.ndarray:
        bins = bins_of(rng, NUM)
        residual = SCATTER * (rng.standard_t(4, NUM) + shift * bins[4])
        return p_values(make_task(rng, residual), np.arange(NUM), bins)

    return one


def flagged(p: np.ndarray) -> np.ndarray:
    """Return which tests are flagged, (M, B)."""
    return (holm(p.reshape(-1)) < LEVEL).reshape(p.shape)


def sky(rng: np.random.Generator, shift: float) -> tuple[float, bool, bool]:
    """Return the p value of the bias, whether the cell with the shift is flagged, and whether any other one is."""
    cell = rng.integers(0, 40, 2000)
    residual = SCATTER * (rng.standard_t(4, 2000) + shift * (cell == 7))
    found = variation(
        influence(make_task(rng, residual).statistic("bias")), cell, np.arange(2000), 199, rng.integers(99)
    )
    hits = found.cells[found.p_cells < LEVEL]
    return found.p, 7 in hits, bool((hits != 7).any())


def covered(rng: np.random.Generator) -> np.ndarray:
    """Return whether the intervals of bias, scatter and root mean square in a bin of 100 objects hold the truth."""
    task = make_task(rng, SCATTER * rng.normal(0.3, 1.0, NUM))
    rows = np.sort(rng.permutation(NUM)[:100])
    names = {"bias": 0.3 * SCATTER, "nmad": SCATTER * 1.4826 * 0.67449, "rmse": SCATTER * np.hypot(1, 0.3)}
    found = intervals(restricted_task(task, rows), list(names), np.arange(NUM)[rows], None, 500)
    return np.array([found[name].low <= true <= found[name].high for name, true in names.items()])


def reweighted(rng: np.random.Generator) -> np.ndarray:
    """Return whether the intervals for another population hold its mean residual and root mean square."""
    mag, target = rng.normal(size=NUM), rng.normal(0.5, 0.8, 4 * NUM)
    residual = SCATTER * (0.3 * mag + np.exp(0.3 * mag) * rng.normal(size=NUM))
    far = rng.normal(0.5, 0.8, 1_000_000)
    truth = {"mean_bias": SCATTER * 0.3 * 0.5, "rmse": SCATTER * np.sqrt(np.mean(0.09 * far**2 + np.exp(0.6 * far)))}
    weights = density_ratio(mag[:, None], target[:, None])
    found = intervals(make_task(rng, residual), list(truth), np.arange(NUM), None, 500, weights=weights)
    return np.array([found[name].low <= true <= found[name].high for name, true in truth.items()])


def rate(hits: int, total: int) -> str:
    """Return a share with its standard error, in per cent."""
    share = hits / total
    return f"{100 * share:5.1f} ± {100 * (share * (1 - share) / total) ** 0.5:.1f} %"


def parts(repeats: int, tenth: int) -> dict[str, Callable[[], Iterator[str]]]:
    """Return what can be measured, by its name."""

    def false_alarms(one: Callable[[np.random.Generator], np.ndarray], name: str) -> Iterator[str]:
        rngs = [np.random.default_rng([5, number]) for number in range(repeats)]
        yield f"{name:12}any flag in a set: {rate(sum(flagged(one(rng)).any() for rng in rngs), repeats)}"

    def powers() -> Iterator[str]:
        for shift in (0.3, 0.5, 0.7, 1.0):
            found = [flagged(power(shift)(np.random.default_rng([6, number])))[0] for number in range(tenth)]
            others = sum(bool(np.delete(each, 4)[4:].any()) for each in found)
            yield (
                f"power       bias of {shift:g} scatters in 160 of 800 objects: "
                f"{rate(sum(each[4] for each in found), tenth)}"
                f" (another column: {rate(others, tenth)})"
            )

    def skies() -> Iterator[str]:
        for shift in (0.0, 0.5, 1.0):
            found = [sky(np.random.default_rng([7, number]), shift) for number in range(repeats)]
            varies, hit, other = (sum(bool(each) for each in column) for column in
                                  zip(*((p < LEVEL, a, b) for p, a, b in found), strict=True))  # fmt: skip
            yield (
                f"sky         bias of {shift:g} scatters in one of 40 cells of 50: varies {rate(varies, repeats)}, "
                f"cell flagged {rate(hit, repeats)}, another one {rate(other, repeats)}"
            )

    def coverage() -> Iterator[str]:
        found = sum(covered(np.random.default_rng([8, number])).astype(int) for number in range(repeats))
        for name, hits in zip(("bias", "nmad", "rmse"), found.tolist(), strict=True):
            yield f"intervals   {name} of a bin of 100 objects: {rate(hits, repeats)}"

    def populations() -> Iterator[str]:
        found = sum(reweighted(np.random.default_rng([9, number])).astype(int) for number in range(repeats))
        for name, hits in zip(("mean residual", "rmse"), found.tolist(), strict=True):
            yield f"reweighted  {name} of a fainter population: {rate(hits, repeats)}"

    return {
        "clean": lambda: false_alarms(clean, "clean"),
        "unequal": lambda: false_alarms(unequal, "unequal"),
        "objects": lambda: false_alarms(objects, "objects"),
        "sky": skies,
        "power": powers,
        "intervals": coverage,
        "reweighted": populations,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the lines of the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(parts(1, 1))
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="write the lines to this file, too")
    given = parser.parse_args(arguments)
    for name in given.only:
        for line in parts(given.repeats, max(1, given.repeats // 5))[name]():
            print(line, flush=True)
            if given.out:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
