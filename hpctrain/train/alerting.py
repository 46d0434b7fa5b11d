"""The alerts that rank 0 judges: from its records, the sensors of all ranks, its disks and its own signs of life."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpctrain.advice.gather import strikes_of
from hpctrain.alerts.facts import Facts
from hpctrain.alerts.judge import Judge
from hpctrain.alerts.look import MEAN_S, Smoothed, barren_attempts, disks_of
from hpctrain.alerts.rules import RULES
from hpctrain.alerts.tape import Tape
from hpctrain.distributed.world import node_name
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.monitor.ledger import read_ledgers
from hpctrain.monitor.raised import OF_JOB, OF_TRAINER, forget
from hpctrain.train.staging import stage_folder

if TYPE_CHECKING:
    from hpctrain.train.run import Run


class Recorder(Exporter):
    """Pass the records of the run to the tape of the alerts; an append is all that the trainer waits for."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take one record."""
        self._tape.take(record)


@contextlib.contextmanager
def alerting(run: Run) -> Iterator[None]:
    """Judge the alerts of a run in a thread of rank 0; leave nothing raised if the run finishes in the block."""
    limits = run.profile.monitor.alerts
    if run.metrics is None or not limits.enabled:
        yield
        return
    tape = Tape(limits.loss_spike_spread)
    tape.first_step = run.progress.step
    run.metrics.subscribe(Recorder(tape))
    place = {"host": node_name(), "job_id": run.world.job_id, "attempt": run.attempt}
    rules = [rule for rule in RULES if not rule.of_job]
    judge = Judge(run.directory, limits, rules, OF_TRAINER, _eyes(run, tape), run.metrics.event, place)
    forget(run.directory, OF_JOB)  # what was raised from outside at the end of the last attempt
    with judge:
        yield
        if run.progress.step >= run.schedule.total_steps or run.progress.stopped_early:
            judge.end()
            judge.clear_all("the training is finished", run.progress.step)


def _eyes(run: Run, tape: Tape) -> Callable[[], Facts]:
    """Return the function that reads the facts of a moment."""
    smoothed = Smoothed(min(MEAN_S, 4 * run.profile.monitor.alerts.check_every_s))
    stage = run.profile.data.stage
    others = {} if stage is None else {"the copies of the data": str(stage_folder(stage))}
    number, node = barren_attempts(run.directory)

    def look() -> Facts:
        now_s = time.time()
        return Facts(
            limits=run.profile.monitor.alerts,
            state=run.heartbeat.state,
            step=run.heartbeat.step,
            silent_s=run.watchdog.silent_s,
            tape=tape,
            ranks=smoothed.update(read_ledgers(run.directory), now_s),
            disks=disks_of(run.directory, others),
            objective=run.family.objective,
            best_value=run.progress.best_value,
            evaluations_since_best=run.progress.evaluations_without_progress,
            checkpoint_every_steps=run.profile.checkpoint.every_steps,
            strikes=strikes_of(run.directory.bad_nodes, now_s),
            barren_attempts=number,
            barren_node=node,
        )

    return look
