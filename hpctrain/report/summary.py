"""The result of a run: its state, one sentence, and the key numbers."""

from __future__ import annotations

import re
import statistics

from hpctrain.drawing.scale import DASH, grouped, significant
from hpctrain.errors import EXIT_REQUEUE
from hpctrain.families.shown import Card
from hpctrain.metrics.events import CheckpointSaved, EarlyStopped
from hpctrain.metrics.objective import Objective
from hpctrain.monitor.ledger import sum_up
from hpctrain.records import Record, is_number
from hpctrain.report.attempts import Attempt
from hpctrain.report.family import fit_sentence, own_cards
from hpctrain.report.gather import RunFacts
from hpctrain.report.text import cut
from hpctrain.states import CANCELLED, FAILED, FINISHED, LOST, NOT_SUBMITTED, PENDING, REQUEUED, RUNNING, STOPPED
from hpctrain.words import format_bytes, format_count, format_duration

FOLLOWED = {
    "requeued": "requeued",
    "terminated": "by scancel, an administrator or the time limit",
    "failed": "not requeued",
    "requeue-is-off": "not requeued: launch.requeue is off",
    "too-many-attempts": "not requeued: the number of attempts has reached its limit",
    "no-progress": "not requeued: the last attempts made no progress",
}
"""The action of the batch script after an attempt, in words."""


def state_of(facts: RunFacts) -> str:
    """Return the state of the run, one of the words of :mod:`hpctrain.states`."""
    if not facts.attempts:
        return PENDING if facts.job else NOT_SUBMITTED
    last = facts.attempts[-1]
    if last.outcome in ("stopped", "killed"):
        if last.followed == "requeued":
            return REQUEUED
        if last.followed:
            return CANCELLED if last.followed == "terminated" else STOPPED
        if last.outcome == "killed":
            return LOST
        return REQUEUED if last.exit_code == EXIT_REQUEUE else STOPPED
    return {"running": RUNNING, "finished": FINISHED}.get(last.outcome, FAILED)


def sentence(facts: RunFacts) -> str:
    """Return the result in one sentence or two."""
    state, step, total = state_of(facts), grouped(facts.step), grouped(facts.total_steps)
    if state in (PENDING, NOT_SUBMITTED):
        return "No attempt has started yet: the job is queued, or nobody started it."
    last = facts.attempts[-1]
    of = f"step {step} of {total}" if facts.total_steps else f"step {step}"
    if state == FINISHED:
        attempts = "one attempt" if len(facts.attempts) == 1 else f"{len(facts.attempts)} attempts"
        early = ", stopped early," if facts.history.newest(EarlyStopped) else ""
        text = f"{step} steps{early} in {attempts} and {format_duration(running_seconds(facts.attempts))}."
        return f"{text} {_fit(facts)}".strip()
    if state == RUNNING:
        return f"At {of}{_time_left(facts)}. {_fit(facts)}".strip()
    if state == REQUEUED:
        saved = ", saved," if last.outcome == "stopped" else ""
        return f"Stopped at {of} ({cut(last.cause)}){saved} and queued again. {_fit(facts)}".strip()
    if state in (STOPPED, CANCELLED):
        return f"Stopped at {of} ({cut(last.cause)}), {FOLLOWED.get(last.followed, 'not requeued')}; it can be resumed."
    if state == LOST:
        return (
            f"Lost: no heartbeat since {of}, and the last attempt ended without a final record (killed, or its node "
            "was lost). It can be resumed."
        )
    if last.outcome == "diverged":
        return f"The loss or a gradient was not finite at {of}."
    return f"Failed at {of}: {cut(last.cause)} (`hpctrain logs` shows the whole message)"


def _fit(facts: RunFacts) -> str:
    if not facts.evaluations:
        return ""
    last = facts.evaluations[-1]
    return fit_sentence(facts.model, last, facts.held_out(last))


def _time_left(facts: RunFacts) -> str:
    reached = facts.step
    progress = [mark for mark in facts.attempts[-1].progress if mark[1] <= reached]
    if len(progress) < 3 or facts.total_steps <= reached:
        return ""
    (first_time, first_step), (last_time, last_step) = progress[0], progress[-1]
    if last_step <= first_step:
        return ""
    seconds = (facts.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)
    return f", about {format_duration(seconds)} left"


def running_seconds(attempts: list[Attempt]) -> float:
    """Return the running time of all attempts, without the time in the queue [s]."""
    return sum(attempt.seconds for attempt in attempts)


def key_numbers(facts: RunFacts) -> list[Card]:
    """Return the cards at the top of the report; an unknown number is a dash."""
    return [*_quality(facts), *_effort(facts)]


def _quality(facts: RunFacts) -> list[Card]:
    losses = [record["loss"] for record in facts.history.train if record.get("loss") is not None]
    last = facts.evaluations[-1] if facts.evaluations else {}
    metric = facts.model.family.objective.metric
    return [
        *own_cards(facts.model, last, facts.held_out(last)),
        *([] if metric == "loss" else [_validation(facts, metric, facts.best_evaluation())]),
        _validation(facts, "loss", facts.history.best_evaluation(Objective())),
        Card(
            "Training loss",
            significant(statistics.fmean(losses[-20:]) if losses else None),
            f"mean of the last {min(20, len(losses))} records" if losses else "nothing recorded yet",
        ),
        _steps(facts),
    ]


def _validation(facts: RunFacts, metric: str, best: Record | None) -> Card:
    """Return the card of a metric of the evaluations: its last value, and the best one."""
    last = facts.evaluations[-1] if facts.evaluations else {}
    value = last.get(metric)
    remark = f"best {best[metric]:.4g} at step {grouped(best['step'])}" if best else "not evaluated yet"
    return Card(f"Validation {metric.replace('_', ' ')}", significant(value if is_number(value) else None), remark)


def _steps(facts: RunFacts) -> Card:
    epoch = next((r["epoch"] for r in reversed(facts.history.train) if r.get("epoch") is not None), None)
    remark = f"of {grouped(facts.total_steps)}" if facts.total_steps else ""
    if epoch is not None:
        remark += f"{', ' if remark else ''}{epoch:.4g} epochs"
    return Card("Steps", grouped(facts.step) if facts.attempts else DASH, remark)


def _effort(facts: RunFacts) -> list[Card]:
    attempts = facts.attempts
    rates = [r["samples_per_s"] for r in facts.history.train if r.get("samples_per_s")]
    last = attempts[-1] if attempts else None
    on = f"{last.world_size} × {last.device}" if last and last.device else "median"
    running_s = running_seconds(attempts)
    energy = sum_up(facts.ranks)
    kwh = f", {energy.kwh:.3g} kWh" if energy.kwh is not None else ""
    queued_s = _queued_seconds(facts)
    lost = sum(attempt.steps_lost for attempt in attempts)
    made = facts.step + lost
    share = f"{100 * lost / made:.2g} % of all steps" if lost else "no step was repeated"
    rate = format_count(statistics.median(rates)) if rates else DASH
    return [
        Card(f"{facts.model.many.capitalize()} per second", rate, on),
        Card("Running time", format_duration(running_s) if attempts else DASH, f"{price(facts)}{kwh}"),
        Card(
            "Attempts",
            str(len(attempts)) if attempts else DASH,
            f"queued for {format_duration(queued_s)} in all" if queued_s >= 1 else "starts of the job",
        ),
        Card("Steps lost", grouped(lost) if attempts else DASH, share if attempts else ""),
    ]


def price(facts: RunFacts) -> str:
    """Return the cost of the run in the units of computing centres: GPU-hours, or core-hours without a GPU."""
    last = facts.attempts[-1] if facts.attempts else None
    seconds = sum(attempt.seconds * attempt.world_size for attempt in facts.attempts)
    unit = "GPU"
    if last is not None and last.device.lower().startswith("cpu"):
        cores = re.search(r"^\s+cpus_per_rank:\s*(\d+)", facts.profile_text, re.MULTILINE)
        unit, seconds = ("core", seconds * int(cores[1])) if cores else ("rank", seconds)
    return f"{seconds / 3600:.3g} {unit}-hours" if seconds >= 3600 else f"{seconds / 60:.3g} {unit}-minutes"


def num_gpus(profile_text: str) -> int | None:
    """Return the number of GPUs of all nodes, by the text of a resolved profile; None if it does not say it."""
    counts = [re.search(rf"^  {key}:\s*(\d+)", profile_text, re.MULTILINE) for key in ("nodes", "gpus_per_node")]
    found = [int(count[1]) for count in counts if count]
    return found[0] * found[1] if len(found) == 2 and all(found) else None


def _queued_seconds(facts: RunFacts) -> float:
    before = facts.submitted_at
    queued_s = 0.0
    for attempt in facts.attempts:
        if before is not None:
            queued_s += max(0.0, attempt.started_at - before)
        before = attempt.ended_at
    return queued_s


def checkpoint_summary(facts: RunFacts) -> str:
    """Return one sentence on the written checkpoints; empty if there are none."""
    written = facts.history.all_of(CheckpointSaved)
    if not written:
        return ""
    sizes = [event.bytes for event in written if event.bytes]
    blocked = [event.blocked_s for event in written if event.blocked_s is not None]
    text = "One checkpoint" if len(written) == 1 else f"{len(written)} checkpoints"
    text += f" of {format_bytes(sizes[-1])}" if sizes else ""
    text += " written"
    if blocked:
        total_s = sum(blocked)
        waited = format_duration(total_s) if total_s >= 1 else f"{1000 * total_s:.0f} ms"
        text += f"; training waited {waited} for them in all"
    return f"{text}."
