"""What alerts cost a run, and what they say of runs that are known to be healthy or to suffer.

    python -m benchmarks.alerts [--folder DIR]

Measures the time that the trainer's thread spends for a record, and the CPU time of one look of the thread of alerts
for runs of 1, 64 and 1024 ranks. Then plays the records of the runs of benchmarks/advice.py to the rules, as fast as it
can, with the times of the records as the clock. A folder that holds the runs already is read again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.advice import made
from benchmarks.advice_runs import healthy, suffering
from hpctrain.alerts.bell import Bell
from hpctrain.alerts.facts import Facts
from hpctrain.alerts.look import Smoothed, disks_of
from hpctrain.alerts.rules import RULES
from hpctrain.alerts.tape import Tape
from hpctrain.metrics.events import AlertRaised
from hpctrain.metrics.objective import Objective
from hpctrain.monitor.ledger import Ledger, read_ledgers
from hpctrain.profile.lookup import family_of_file
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.records import is_number
from hpctrain.rundir import RunDir

LIMITS = AlertsSection()
NUM_RECORDS = 3000
"""Training records between two looks: a step of 10 ms, each of which is recorded."""


def record_of(step: int) -> dict[str, Any]:
    """Return a training record as the trainer writes it."""
    return {"kind": "train", "step": step, "time": 1e9 + 0.01 * step, "loss": 1.0 + 1e-3 * (step % 7),
            "samples_per_s": 1e4, "grad_norm": 1.0, "lr": 1e-3, "data_wait_share": 0.0, "epoch": 0.1}  # fmt: skip


def cost_of_a_record() -> float:
    """Return the time that the trainer's thread spends for a record [s]."""
    tape, records = Tape(), [record_of(step) for step in range(NUM_RECORDS)]
    began_s = time.perf_counter()
    for record in records:
        tape.take(record)
    return (time.perf_counter() - began_s) / NUM_RECORDS


def cost_of_a_look(folder: Path, num_ranks: int) -> float:
    """Return the CPU time of one look at a run of so many ranks, with the records of half a minute [s]."""
    run = RunDir.create(folder, "cost", f"ranks-{num_ranks}")
    values = {"gpu_utilisation_percent": 95.0, "gpu_throttled_by_heat": 0.0, "gpu_temperature_c": 60.0, "pace": "ok"}
    for rank in range(num_ranks):
        Ledger(run, rank, 1, f"node{rank // 8}").write(7, values, {}, 5.0)
    tape, smoothed, bell = Tape(), Smoothed(), Bell(RULES, LIMITS)
    spent_s = []
    for look in range(5):
        for step in range(NUM_RECORDS):
            tape.take(record_of(look * NUM_RECORDS + step))
        began_s = time.process_time()
        now_s = time.time()
        facts = Facts(tape=tape, ranks=smoothed.update(read_ledgers(run), now_s), disks=disks_of(run, {}), silent_s=0.0)
        tape.catch_up()
        for rule in bell.rules:
            bell.hear(rule.name, rule.judge(facts), now_s, 7)
        spent_s.append(time.process_time() - began_s)
    return min(spent_s)


def alerts_of(run: RunDir) -> list[str]:
    """Return the alerts that the records of a run would have raised, with a look after each record."""
    family = family_of_file(run.profile)
    objective = family.objective if family else Objective()
    tape, bell, best, since_best = Tape(), Bell(RULES, LIMITS), None, 0
    raised = []
    for record in run.read_metrics():
        tape.take(record)
        tape.catch_up()
        if record["kind"] == "eval" and is_number(value := record.get(objective.metric)):
            is_better = objective.is_better(value, best)
            best, since_best = (value, 0) if is_better else (best, since_best + 1)
        facts = Facts(
            step=record["step"], tape=tape, objective=objective, best_value=best, evaluations_since_best=since_best,
            checkpoint_every_steps=100, silent_s=0.0,
        )  # fmt: skip
        for rule in bell.rules:
            event = bell.hear(rule.name, rule.judge(facts), record["time"], record["step"])
            raised += [rule.name] if isinstance(event, AlertRaised) else []
    return raised


def main() -> None:
    """Print costs, false alarms of healthy runs, and what is said of runs that suffer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="alerts-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"a record costs the trainer's thread {1e6 * min(cost_of_a_record() for _ in range(5)):.2f} µs")
    for num_ranks in (1, 64, 1024):
        with tempfile.TemporaryDirectory() as place:
            spent_s = cost_of_a_look(Path(place), num_ranks)
        share = 100 * spent_s / LIMITS.check_every_s
        print(f"a look at {num_ranks} ranks and {NUM_RECORDS} records costs {1e3 * spent_s:.1f} ms of CPU, "
              f"{share:.3f} % of a core")  # fmt: skip
    import hpctrain.train.attempt  # noqa: F401  (once, for all forks)

    said = {name: alerts_of(made(folder, name, profile)) for name, profile in healthy(folder)}
    show(said, "healthy")
    show({name: alerts_of(made(folder, name, profile)) for name, _, profile in suffering(folder)}, "suffering")


def show(said: Mapping[str, list[str]], what: str) -> None:
    """Print how many of some runs had an alert, and which."""
    print(f"{what} runs: {len(said)}, of which {sum(map(bool, said.values()))} with an alert")
    for name, alerts in said.items():
        if alerts:
            print(f"  {name}: {', '.join(alerts)}")


if __name__ == "__main__":
    main()
