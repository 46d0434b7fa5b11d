"""What `hpctrain advise` finds in runs that suffer, and what it says of healthy ones.

    python -m benchmarks.advice [--folder DIR]

Trains 30 healthy small runs and a dozen with bad settings or bad data on this machine, and plants the rest (heat, lost
nodes, full disks, NCCL, the queue) into the records of a healthy one. Prints what was found, missed and false. A folder
that holds the runs already is read again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.advice_plants import PLANTS, copy_of, plant_of
from benchmarks.advice_runs import healthy, make, suffering
from hpctrain.advice.advise import advise
from hpctrain.advice.gather import summarise
from hpctrain.rundir import RunDir


def rules_for(run: RunDir) -> list[str]:
    """Return the names of the rules that have something to say about a run."""
    return [said.rule for said in advise(summarise(run))]


def made(folder: Path, name: str, profile: dict) -> RunDir:
    """Return the run of this name, trained now unless it is there."""
    there = RunDir(folder / "advice" / name)
    return there if there.metrics.exists() else make(folder, name, profile)


def main() -> None:
    """Print how many suffering runs were found and missed, and how many healthy ones had a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="advice-"))
    folder.mkdir(parents=True, exist_ok=True)
    import hpctrain.train.attempt  # noqa: F401  (once, for all forks)

    found, missed, beside = 0, [], 0
    for name, expected, profile in suffering(folder):
        said = rules_for(made(folder, name, profile))
        found, beside = found + (expected in said), beside + len(set(said) - {expected})
        missed += [] if expected in said else [f"{name} ({expected}; said {', '.join(said) or 'nothing'})"]
    runs = [made(folder, name, profile) for name, profile in healthy(folder)]
    for name in PLANTS:
        with tempfile.TemporaryDirectory() as place:
            copy = copy_of(runs[0], Path(place))
            expected = plant_of(name, copy)
            said = rules_for(copy)
        found, beside = found + (expected in said), beside + len(set(said) - {expected})
        missed += [] if expected in said else [f"{name} ({expected}; said {', '.join(said) or 'nothing'})"]
    false = {run.run_id: said for run in runs if (said := rules_for(run))}
    print(f"suffering runs: {found} found, {len(missed)} missed, {beside} further pieces of advice beside the expected")
    for text in missed:
        print(f"  missed: {text}")
    print(f"healthy runs: {len(runs)}, of which {len(false)} with a false alarm")
    for name, said in false.items():
        print(f"  false: {name}: {', '.join(said)}")


if __name__ == "__main__":
    main()
