"""Coverage of conformal sets and intervals, calibration error and temperature, where the truth is known.

python -m benchmarks.validation_calibration            1,000 simulated repeats, a few minutes on one core

A repeat draws objects of three classes of unequal shares whose predicted probabilities are too sure, and values whose
predicted errors are too small by a factor that depends on the object. One half sets the thresholds, the other half is
judged.
"""

from __future__ import annotations

import argparse

import numpy as np

from hpctrain.families.labels.conformal import APS, LAC, Base, class_scores, taken, threshold
from hpctrain.validation.uncertainty.coverage import central_level, coverage_error, error_by_chance
from hpctrain.validation.uncertainty.outliers import Detector
from hpctrain.validation.uncertainty.recalibrate import fit_temperature
from hpctrain.validation.uncertainty.reliability import reliability

SHARES = np.array([0.6, 0.1, 0.3])
SIZE = 1000
"""Objects of a repeat; half of them set the thresholds."""
MISCOVERAGE = 0.1
SHARPNESS = 1.8
"""What the logits of the true probabilities are multiplied by."""


def classes(rng: np.random.Generator, size: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes (n,) and predicted probabilities (n, 3); sharpness 1 gives the true ones (Bayes' rule)."""
    true = rng.choice(3, size=size, p=SHARES)
    logits = np.log(SHARES) + 1.5 * (1.5 * np.eye(3)[true] + rng.normal(size=(size, 3)))
    p = np.exp(sharpness * (logits - logits.max(axis=1, keepdims=True)))
    return true, p / p.sum(axis=1, keepdims=True)


def coverage_of_sets(rng: np.random.Generator) -> dict[str, float]:
    """Return the coverage of one repeat: of all objects, and of the objects of the rarest class."""
    true, p = classes(rng, SIZE, SHARPNESS)
    ids, rows, half = rng.integers(2**62, size=SIZE), np.arange(SIZE), SIZE // 2
    found = {}
    for method in (LAC, APS):
        own = class_scores(p, method, ids)[rows, true]
        limits = np.array([threshold(own[:half][true[:half] == one], MISCOVERAGE) for one in range(3)])
        for name, inside in (
            (method, own[half:] <= threshold(own[:half], MISCOVERAGE)),
            (f"{method}, one threshold per class", own[half:] <= limits[true[half:]]),
        ):
            found[f"{name}: all"] = float(inside.mean())
            found[f"{name}: rarest class"] = float(inside[true[half:] == 1].mean())
    return found


def coverage_of_intervals(rng: np.random.Generator) -> dict[str, float]:
    """Return the coverage of one repeat: of all objects, and of the faint fifth, whose errors are most too small."""
    faint = rng.uniform(size=SIZE)
    error = rng.lognormal(sigma=0.5, size=SIZE)
    true = error * (0.8 + 1.2 * faint) * rng.standard_t(5, size=SIZE)
    base, half = Base(-error, error), SIZE // 2
    own, group = base.scores(true), np.minimum((faint * 5).astype(np.int64), 4)
    limits = np.array([threshold(own[:half][group[:half] == one], MISCOVERAGE) for one in range(5)])
    one = own[half:] <= threshold(own[:half], MISCOVERAGE)
    each = own[half:] <= taken(limits, group[half:])
    last = group[half:] == 4
    return {
        "interval: all": float(one.mean()),
        "interval: faintest fifth": float(one[last].mean()),
        "interval, one threshold per bin: all": float(each.mean()),
        "interval, one threshold per bin: faintest fifth": float(each[last].mean()),
    }


def errors_of_calibration(rng: np.random.Generator) -> dict[str, float]:
    """Return calibration error of known miscalibration, whether its interval holds it, and the fitted temperature.

    Events happen with 1/2 + 0.8 (p - 1/2) for uniform p, whose calibration error is 0.2 E|p - 1/2| = 0.05.
    """
    p = rng.uniform(size=2000)
    wrong = reliability(p, rng.uniform(size=2000) < 0.5 + 0.8 * (p - 0.5), np.arange(2000))
    right = reliability(p, rng.uniform(size=2000) < p, np.arange(2000))
    low, high = wrong.error_interval(0.95, 200, seed=int(rng.integers(2**31)))
    below, _ = right.error_interval(0.95, 200, seed=int(rng.integers(2**31)))
    true, probability = classes(rng, 2000, SHARPNESS)
    return {
        "calibration error, in truth 0.05": wrong.error,
        "calibration error, in truth 0.05: debiased": wrong.debiased_error,
        "calibration error, in truth 0.05: share of 95 % intervals that hold it": float(low <= 0.05 <= high),
        "calibration error, in truth 0": right.error,
        "calibration error, in truth 0: expected by chance": right.error_by_chance,
        "calibration error, in truth 0: share of 95 % intervals that begin at 0": float(below == 0),
        f"temperature, in truth {SHARPNESS:g}": fit_temperature(probability, true),
        "coverage error of right densities / that by chance": coverage_error(central_level(rng.uniform(size=2000)))
        / error_by_chance(2000),
    }


def false_alarms(rng: np.random.Generator) -> dict[str, float]:
    """Return the share of samples like the training that a threshold for 1 % flags, and of samples 3 scatters off."""
    found = {}
    training, like = rng.normal(size=(500, 5)), rng.normal(size=(1000, 5))
    far = rng.normal(size=(200, 5)) + np.array([4.0, 0, 0, 0, 0])
    for method in ("neighbours", "mahalanobis"):
        detector = Detector(training, method)  # type: ignore[arg-type]
        scores = detector.scores(like)
        limit = threshold(scores[:500], 0.01)
        found[f"{method}: false alarms, nominal 0.01"] = float((scores[500:] > limit).mean())
        found[f"{method}: found 4 scatters away"] = float((detector.scores(far) > limit).mean())
    return found


def main() -> None:
    """Print the means over the repeats with their standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    print(f"{repeats:,} repeats of {SIZE:,} objects; mean and its standard error")
    for number, one in enumerate((coverage_of_sets, coverage_of_intervals, errors_of_calibration, false_alarms)):
        rng = np.random.default_rng(number)
        drawn = [one(rng) for _ in range(repeats)]
        print(f"\n| {one.__name__.replace('_', ' ')} | |\n|---|---|", flush=True)
        for name in drawn[0]:
            values = np.array([each[name] for each in drawn])
            values = values[np.isfinite(values)]
            print(f"| {name} | {values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f} |")


if __name__ == "__main__":
    main()
