"""Ten weeks of a survey that drifts: how good is the model in service, by how it is trained again each week?

    python -m benchmarks.continuous_training [--seeds 8] [--objects 400] [--trees 30]

Each week has as many galaxies, further away than those of the week before; in week 5 the labels are mixed up, in a way
that no check of the data can see. The error of a week is the root mean square of the redshifts that the model in
service predicts for that week's objects, before it is trained on them. Printed is the mean over weeks 2 to 10, with a
95 % interval by a bootstrap over the seeds, and its difference to the first line, seed by seed.

`challenged` is what a pipeline with the stage `challenge` does: a candidate that is not better is not promoted, and a
week whose candidate was worse is taken away.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.nights import galaxies
from hpctrain.families.trees.family import FAMILY
from hpctrain.families.trees.section import TreesSection
from hpctrain.kinds.catalogue.facts import INPUTS, CatalogueFacts
from hpctrain.pipeline.challenge import Rules, TestSet, compare_on, decide
from hpctrain.rundir import RunDir
from hpctrain.samples.arrays import ArrayBatch
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.of_run import tasks_of

WEEKS, WRONG = 10, 5
NAMES = ("g", "r", "i", "g - r", "r - i")
LABELS = [{"column": "z", "kind": "value", "centre": 0.5, "scale": 0.2}]
TEST_SHARE, REPLAY = 0.25, 0.5
RULES = Rules(metrics=("z.rmse",), draws=500)


@dataclass
class Week:
    """Objects of a week: inputs (N, F), true redshifts and those in the file (N,), identifiers, and who tests."""

    inputs: np.ndarray
    true: np.ndarray
    z: np.ndarray
    target_id: np.ndarray
    is_test: np.ndarray

    def take(self, rows: np.ndarray) -> Week:
        """Return some of the objects."""
        return Week(*(values[rows] for values in vars(self).values()))


def week(number: int, num: int, seed: int) -> Week:
    """Return the objects of a week."""
    found = galaxies(number, num, 1000 * seed + number)
    g, r, i = (found[band] for band in "gri")
    z = np.random.default_rng(seed).permutation(found["z"]) if number == WRONG else found["z"]
    target_id = number * 1_000_000 + np.arange(num)
    return Week(
        np.stack([g, r, i, g - r, r - i], 1).astype(np.float32),
        found["z"],
        z,
        target_id,
        unit_interval(hash_ids(target_id, "test")) < TEST_SHARE,
    )


def joined(weeks: list[Week]) -> Week:
    """Return the objects of several weeks together."""
    return Week(*(np.concatenate([vars(each)[name] for each in weeks]) for name in vars(weeks[0])))


def trained(section: TreesSection, data: Week, seed: int, start: Any = None) -> Any:
    """Return a model of the training objects; with `start`, one that goes on from there."""
    data = data.take(~data.is_test)
    model = FAMILY.network(section, CatalogueFacts(NAMES))
    if start is not None:
        model.load(start.state())
    for number in range(section.rounds):
        model.do_round(number, np.arange(len(data.z)), lambda rows: iter([batch_of(data)]), seed=1000 * seed + number)
    return model


def batch_of(data: Week) -> ArrayBatch:
    """Return objects as a batch with their label."""
    rows = torch.arange(len(data.z))
    return ArrayBatch({INPUTS: torch.from_numpy(data.inputs)}, rows, rows, {"z": torch.from_numpy(data.z).float()})


def predicted(model: Any, data: Week) -> np.ndarray:
    """Return the redshifts (N,) that a model predicts."""
    return np.asarray(model.predict(batch_of(data))["z_PRED"], dtype=np.float64)


def is_better(champion: Any, candidate: Any, frozen: Week, newest: Week) -> tuple[bool, bool]:
    """Return whether the stage `challenge` would promote a candidate, and whether it is worse."""
    sets = [
        TestSet(name, *(Entrant(who, _judged(who, model, data)) for who, model in pair))
        for name, data in (("frozen", frozen), ("newest", newest))
        for pair in [(("champion", champion), ("candidate", candidate))]
    ]
    found = decide([each for test in sets for each in compare_on(test, RULES)], RULES, "champion")
    return found.passed, found.why.startswith("worse")


def _judged(name: str, model: Any, data: Week) -> Judged:
    columns = {"z_TRUE": data.z, "z_PRED": predicted(model, data)}
    card = {"family": "trees", "section": {"labels": LABELS}}
    row = np.arange(len(data.z))
    run = RunDir(Path(name))
    return Judged(run, name, card, data.target_id, row, columns, tasks_of(card, columns), None)  # type: ignore[arg-type]


@dataclass
class Strategy:
    """How the model in service comes about: it is called with the new data of each week, and keeps the others."""

    section: TreesSection
    seed: int
    model: Any = None
    old: list[Week] = field(default_factory=list)
    waiting: list[Week] = field(default_factory=list)
    promoted: int = 0

    def never(self, new: Week) -> None:
        """Train in the first week only."""
        self.model = self.model or trained(self.section, new, self.seed)

    def always(self, new: Week) -> None:
        """Train anew on all data, and take the new model."""
        self.old.append(new)
        self.model = trained(self.section, joined(self.old), self.seed)
        self.promoted += 1

    def goes_on(self, new: Week) -> None:
        """Go on from the model in service, on the new data and half of the old objects, and take the new model."""
        old = [each.take(unit_interval(hash_ids(each.target_id, "replay")) < REPLAY) for each in self.old]
        self.model = trained(self.section, joined([new, *old]), self.seed + len(old), self.model)
        self.old.append(new)
        self.promoted += 1

    def challenged(self, new: Week) -> None:
        """Train anew on all data; take the new model if it is better on the frozen or the newest objects."""
        frozen = (self.old or [new])[0]
        self.waiting.append(new)
        candidate = trained(self.section, joined([*self.old, *self.waiting]), self.seed)
        passed, is_worse = True, False
        if self.model is not None:
            sets = (each.take(each.is_test) for each in (frozen, joined(self.waiting)))
            passed, is_worse = is_better(self.model, candidate, *sets)
        if is_worse:
            self.waiting.pop()
        if passed:
            self.model, self.old, self.waiting = candidate, [*self.old, *self.waiting], []
            self.promoted += 1


Act = Callable[[Strategy, Week], None]
FOREST, BOOSTING = "forest", "boosting"
LINES: dict[str, tuple[str, Act]] = {
    "forest, challenged": (FOREST, Strategy.challenged),
    "forest, never trained again": (FOREST, Strategy.never),
    "forest, anew each week": (FOREST, Strategy.always),
    "boosting, challenged": (BOOSTING, Strategy.challenged),
    "boosting, anew each week": (BOOSTING, Strategy.always),
    "boosting, goes on each week": (BOOSTING, Strategy.goes_on),
}


def errors_of(name: str, seed: int, num: int, trees: int) -> tuple[np.ndarray, int, int]:
    """Return the error in each of the weeks 2 to 10 (W,), the number of promotions, and the size of the last model."""
    method, act = LINES[name]
    keys = {"splits": "histogram", "trees": 2 * trees} if method == BOOSTING else {"trees": trees}
    section = TreesSection(family="trees", labels=LABELS, method=method, trees_per_round=10, min_leaf=5, **keys)
    strategy, errors = Strategy(section, seed), []
    for number in range(1, WEEKS + 1):
        new = week(number, num, seed)
        if strategy.model is not None:
            errors.append(float(np.sqrt(np.mean(np.square(predicted(strategy.model, new) - new.true)))))
        act(strategy, new)
    return np.array(errors), strategy.promoted, sum(array.size for array in strategy.model.state().values())


def interval(values: np.ndarray) -> str:
    """Return the mean of values, one per seed (S,), with its interval."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--objects", type=int, default=400, help="galaxies of a week")
    parser.add_argument("--trees", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.objects} galaxies a week, {args.seeds} seeds; errors of weeks 2 to {WEEKS}")
    print("| | error in service | minus the first line | week 6 | promotions | numbers in the last model |")
    print("|---|---|---|---|---|---|")
    first: np.ndarray | None = None
    for name in LINES:
        found = [errors_of(name, seed, args.objects, args.trees) for seed in range(args.seeds)]
        errors = np.stack([each[0] for each in found])
        means = errors.mean(axis=1)
        first = means if first is None else first
        apart = interval(means - first) if means is not first else ""
        promoted, size = (np.mean([each[place] for each in found]) for place in (1, 2))
        after = errors[:, WRONG - 1].mean()
        print(f"| {name} | {interval(means)} | {apart} | {after:.4f} | {promoted:.1f} | {size:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
