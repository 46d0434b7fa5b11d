"""CPU time of trees beside scikit-learn alone, on the same objects in the same process.

    python -m benchmarks.trees [--num-objects 5000] [--rounds 3]

A forest of 100 trees, and 300 corrections of depth 4, learn a number from 14 inputs of simulated objects; both predict
as many new ones. Each line is the median of the rounds, in seconds of one core, and its ratio to the library. Boosting
of ours grows a second sum of trees for the variance, so it grows twice as many trees.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

from hpctrain.families.trees.family import FAMILY
from hpctrain.families.trees.section import TreesSection
from hpctrain.kinds.catalogue.facts import INPUTS, CatalogueFacts
from hpctrain.samples.arrays import ArrayBatch

NUM_INPUTS, NUM_TREES, NUM_CORRECTIONS = 14, 100, 300
SHARED = {"family": "trees", "labels": [{"column": "y", "kind": "value", "centre": 0.0, "scale": 1.0}]}
OURS = {
    "forest": {"trees": NUM_TREES, "trees_per_round": 20, "min_leaf": 5, "features_per_split": 1.0},
    "boosting, histogram": {
        "method": "boosting",
        "splits": "histogram",
        "trees": NUM_CORRECTIONS,
        "trees_per_round": 20,
    },
    "boosting, exact": {"method": "boosting", "trees": NUM_CORRECTIONS, "trees_per_round": 20},
}
PEERS = {
    "forest": lambda: RandomForestRegressor(NUM_TREES, min_samples_leaf=5, n_jobs=1),
    "boosting": lambda: HistGradientBoostingRegressor(
        max_iter=NUM_CORRECTIONS, max_depth=4, max_leaf_nodes=None, min_samples_leaf=10, early_stopping=False
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-objects", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=list(OURS), help="methods to leave out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known, new = (objects(args.num_objects, seed) for seed in (0, 1))
    measures = {name: lambda name=name: library(PEERS[name](), known, new) for name in PEERS}
    measures |= {f"trees, {n}": lambda n=n: ours(OURS[n], known, new) for n in OURS if n not in args.without}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
    for _ in range(args.rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    print(f"{args.num_objects:,} objects, median of {args.rounds} rounds\n| | grow [s] | ratio | predict [s] | ratio |")
    print("|---|---|---|---|---|")
    medians = {name: np.median(each, axis=0) for name, each in found.items()}
    for name, (grow, predict) in medians.items():
        peer = medians["forest" if "forest" in name else "boosting"]
        print(f"| {name} | {grow:.2f} | {grow / peer[0]:.2f} | {predict:.2f} | {predict / peer[1]:.2f} |")


def objects(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, F), float32, and a number (N,) that depends on four of them."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, NUM_INPUTS)).astype(np.float32)
    signal = inputs[:, 0] + np.sin(2 * inputs[:, 1]) + inputs[:, 2] * inputs[:, 3]
    return inputs, signal + 0.1 * rng.normal(size=num)


def library(
    model: Any, known: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Return the CPU seconds in which a model of scikit-learn learns and predicts."""
    return spent(lambda: model.fit(*known)), spent(lambda: model.predict(new[0]))


def ours(
    keys: dict[str, Any], known: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Return the CPU seconds in which our model does all rounds and predicts."""
    section = TreesSection(**SHARED, **keys)
    model = FAMILY.network(section, CatalogueFacts(tuple(f"x{n}" for n in range(NUM_INPUTS))))
    rows = np.arange(len(known[0]))
    batch, other = (batch_of(*each) for each in (known, new))

    def grow() -> None:
        for number in range(section.rounds):
            model.do_round(number, rows, lambda rows: iter([batch]), seed=number)

    return spent(grow), spent(lambda: model.predict(other))


def batch_of(inputs: np.ndarray, values: np.ndarray) -> ArrayBatch:
    """Return objects as a batch with their label."""
    rows = torch.arange(len(inputs))
    return ArrayBatch({INPUTS: torch.from_numpy(inputs)}, rows, rows, {"y": torch.from_numpy(values).float()})


def spent(act: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    act()
    return time.process_time() - start


if __name__ == "__main__":
    main()
