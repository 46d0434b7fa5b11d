"""What a search adds to its trials: the choice of values, its process, and reading thousands of trials.

    python -m benchmarks.search [--trials 10000] [--rounds 5]

CPU seconds, each beside a peer in the same run: Optuna alone in one process, and the imports of a rank, which every
trial has to do anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import optuna

from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.search.folder import StudyDir, StudyRecord, write_study
from hpctrain.search.sampling import sample
from hpctrain.search.section import StudySection
from hpctrain.search.trials import Trial, read_trials
from hpctrain.states import FINISHED

SPACE = {
    "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "model.latent_size": {"low": 2, "high": 16},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "train.batch_size": [32, 64, 128],
}
PROFILE = {"name": "search", "data": {"files": ["x.h5"]}, "launch": {"gpus_per_node": 0}}


def make_study(path: Path, num_trials: int) -> StudyDir:
    """Write the folder of a study whose trials have all ended, with ten evaluations each."""
    study, draw = StudyDir(path), random.Random(1)
    study.path.mkdir(parents=True)
    section = StudySection.model_validate(
        {
            "name": "search",
            "base": "b.yaml",
            "trials": num_trials,
            "space": SPACE,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
        }
    )
    write_study(study, section)
    study.base.write_text(dump_profile(profile_of(PROFILE)))
    study.write_record(StudyRecord("local", time.time(), num_trials))
    for number in range(num_trials):
        trial = study.trial(number)
        trial.path.mkdir()
        values = {
            "train.learning_rate": 10 ** draw.uniform(-5, -1),
            "model.latent_size": draw.randint(2, 16),
            "model.dropout": draw.uniform(0, 0.5),
            "train.batch_size": draw.choice(["32", "64", "128"]),
        }
        curve = [[index, draw.random()] for index in range(1, 11)]
        ended = Trial(number, FINISHED, values, [draw.random()], curve, 100, 100, 1.0, 2.0, 0.1)
        trial.asked.write_text(json.dumps({"number": number, "values": values, "system": {}, "asked_at": 1.0}))
        trial.outcome.write_text(json.dumps(asdict(ended)))
    return study


def cpu_s(work: Callable[[], Any], rounds: int) -> float:
    """Return the median CPU time of this process and its children for some work [s]."""

    def used() -> float:
        kinds = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(kind.ru_utime + kind.ru_stime for kind in kinds)

    spent = []
    for _ in range(rounds):
        before = used()
        work()
        spent.append(used() - before)
    return statistics.median(spent)


def optuna_alone(trials: list[Trial], section: StudySection, folder: Path) -> Callable[[str], Callable[[], None]]:
    """Return a function that asks and tells once in a study of these trials, in memory or in SQLite."""
    from hpctrain.search.sampling import study_of

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    frozen = study_of(section, trials, before=len(trials)).get_trials()

    def of(storage: str) -> Callable[[], None]:
        url = None if storage == "memory" else f"sqlite:///{folder / 'study.db'}"
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=1)
        study = optuna.create_study(sampler=sampler, storage=url)
        study.add_trials(frozen)

        def once() -> None:
            trial = study.ask()
            trial.suggest_float("train.learning_rate", 1e-5, 1e-1, log=True)
            trial.suggest_int("model.latent_size", 2, 16)
            trial.suggest_float("model.dropout", 0.0, 0.5)
            trial.suggest_categorical("train.batch_size", ["32", "64", "128"])
            for index in range(1, 11):
                trial.report(1.0, index)
            study.tell(trial, 1.0)

        return once

    return of


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}

    def process(*words: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=False)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = make_study(folder / "small/100", 101), make_study(folder / "large/1", options.trials)
        section, trials = small.section(), read_trials(small)[:100]
        alone = optuna_alone(trials, section, folder)
        last = small.trial(100)

        def ask_anew() -> None:
            for path in (last.asked, last.outcome, last.profile, last.job):
                path.unlink(missing_ok=True)
            process("-m", "hpctrain.search.ask", str(last.path))()

        rank = cpu_s(process("-c", "import hpctrain.train.attempt"), options.rounds)
        rows = [
            ("imports of one rank", rank),
            ("choose values, after 100 trials", cpu_s(lambda: sample(section, trials, 100), options.rounds)),
            ("  Optuna alone in memory, ask and tell", cpu_s(alone("memory"), options.rounds)),
            ("  Optuna alone in SQLite, ask and tell", cpu_s(alone("sqlite"), options.rounds)),
            ("ask as its own process, after 100 trials", cpu_s(ask_anew, options.rounds)),
        ]
        read_trials(large)
        status = process("-m", "hpctrain", "search", "status", str(large.path))
        many = read_trials(large)
        rows += [
            (f"status of {options.trials:,} trials", cpu_s(status, options.rounds)),
            (f"choose values, after {options.trials:,}", cpu_s(lambda: sample(section, many[:-1], len(many)), 1)),
        ]
    print(f"{'CPU seconds':<44}{'':>8}{'of a rank':>12}")
    for what, seconds in rows:
        print(f"{what:<44}{seconds:>8.3f}{seconds / rank:>12.2f}")
    print(f"memory of this process, with {options.trials:,} trials: "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
