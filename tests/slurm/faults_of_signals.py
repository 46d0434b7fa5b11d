"""Signals at bad moments: in the first second, during imports, an evaluation, a save, on one rank, twice, too late.

Each function waits for its moment in the attempt that is under way, does the harm, and returns when that attempt has
ended.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from fault_lab import NUM_STEPS
from faulted_run import FaultedRun


def signal_in_the_first_second(run: FaultedRun) -> None:
    run.signal(signal.SIGUSR2, 0, 1)  # as soon as the processes exist: Python has hardly begun
    run.wait_for_end_of_attempt()


def signal_during_import(run: FaultedRun) -> None:
    pid = run.rank_pid(0)
    run.wait_until(lambda: "libtorch" in Path(f"/proc/{pid}/maps").read_text(), "torch being imported")
    assert not run.last_record()
    run.signal(signal.SIGTERM, 0, 1)
    run.wait_for_end_of_attempt()


def signal_during_evaluation(run: FaultedRun) -> None:
    def evaluating() -> bool:
        record = run.last_record()
        return record.get("kind") == "train" and record["step"] % 10 == 0

    run.warn_when(evaluating, signal.SIGUSR2, 0, 1)
    run.wait_for_end_of_attempt()


def signal_during_a_save(run: FaultedRun) -> None:
    def saving() -> bool:
        return any(run.run.checkpoints.glob(".step-*"))

    run.warn_when(saving, signal.SIGTERM, 0, 1)
    run.wait_for_end_of_attempt()


def signal_on_one_rank(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.signal(signal.SIGTERM, 1)
    run.wait_for_end_of_attempt()


def two_signals(run: FaultedRun) -> None:
    run.wait_for_steps(10)
    run.signal(signal.SIGUSR2, 0, 1)
    run.signal(signal.SIGTERM, 0, 1)
    run.wait_for_end_of_attempt()


def second_term_later(run: FaultedRun) -> None:
    """Rank 0 waits in a collective for one that is deaf, so it cannot save; whoever insists is obeyed."""
    run.wait_for_steps(25)
    run.stop(1)
    time.sleep(1)
    run.signal(signal.SIGTERM, 0)
    time.sleep(2.5)
    assert run.followed() == [], [*run.ended(), run.log("*-srun.log")[-2000:], run.log("*-rank-*.log")[-4000:]]
    run.signal(signal.SIGTERM, 0)
    run.wait_for_end_of_attempt()
    assert "task 0: Exited with exit code 143" in run.log("*-srun.log")
    assert run.followed() == ["requeued"]


def signal_after_the_last_step(run: FaultedRun) -> None:
    def finishing() -> bool:
        record = run.last_record()
        return record.get("step") == NUM_STEPS and record.get("event") != "finished"

    run.warn_when(finishing, signal.SIGTERM, 0)
    run.wait_until_finished()
