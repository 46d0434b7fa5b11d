"""What a run came to: its state, one sentence, the key numbers, and what went wrong on the way."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hpctrain.metrics.progress import describe_event, format_bytes, format_count, format_duration
from hpctrain.monitor.ledger import sum_up
from hpctrain.report.attempts import Attempt
from hpctrain.report.gather import RunFacts
from hpctrain.report.machine import machine_warnings
from hpctrain.report.scale import grouped

EXIT_REQUEUE = 75
DASH = "–"

FOLLOWED = {
    "requeued": "requeued",
    "terminated": "by scancel, an administrator or the time limit",
    "failed": "not requeued",
    "requeue-is-off": "not requeued: launch.requeue is off",
    "too-many-attempts": "not requeued: the attempts are used up",
    "no-progress": "not requeued: the last attempts made no progress",
}
"""What the batch script did after an attempt, in words."""

_WARNING_EVENTS = (
    "checkpoint_rejected",
    "checkpoint_failed",
    "exporter_failed",
    "records_lost",
    "stage_fell_back",
    "diverged",
    "failed",
)


@dataclass(frozen=True)
class KeyNumber:
    """A number worth a card: what it is, its value, and a remark below."""

    label: str
    value: str
    remark: str = ""


def state_of(facts: RunFacts) -> str:
    """Return ``submitted``, ``running``, ``waiting``, ``finished``, ``failed``, ``diverged`` or ``stopped``."""
    if not facts.attempts:
        return "submitted"
    last = facts.attempts[-1]
    if last.outcome in ("stopped", "killed") and last.followed == "requeued":
        return "waiting"
    if last.outcome == "stopped":
        return "waiting" if last.exit_code == EXIT_REQUEUE and not last.followed else "stopped"
    if last.outcome == "killed":
        return "stopped" if last.followed else "lost"
    return last.outcome


def sentence(facts: RunFacts) -> str:
    """Return the result in one sentence or two."""
    state, step, total = state_of(facts), grouped(facts.step), grouped(facts.total_steps)
    if state == "submitted":
        return "No attempt has started yet; the run waits in the queue, or was never begun."
    last = facts.attempts[-1]
    of = f"step {step} of {total}" if facts.total_steps else f"step {step}"
    if state == "finished":
        attempts = "one attempt" if len(facts.attempts) == 1 else f"{len(facts.attempts)} attempts"
        early = ", stopped early," if facts.history.last("early_stopped") else ""
        text = f"{step} updates{early} in {attempts} and {format_duration(training_seconds(facts.attempts))}."
        return f"{text} {_fit(facts)}".strip()
    if state == "running":
        return f"At {of}{_time_left(facts)}. {_fit(facts)}".strip()
    if state == "waiting":
        saved = ", saved," if last.outcome == "stopped" else ""
        return f"Stopped at {of} ({last.cause}){saved} and waiting for the queue. {_fit(facts)}".strip()
    if state == "stopped":
        return f"Stopped at {of} ({last.cause}), {FOLLOWED.get(last.followed, 'not requeued')}; it can be resumed."
    if state == "lost":
        return f"No sign of life since {of}: the last attempt ended without a goodbye. It can be resumed."
    if state == "diverged":
        return f"The loss or a gradient was not finite at {of}."
    return f"Failed at {of}: {first_line(last.cause)}"


def _fit(facts: RunFacts) -> str:
    evaluations = [record for record in facts.history.evaluations if record.get("loss") is not None]
    if not evaluations:
        return ""
    last = evaluations[-1]
    spectra = f"{grouped(last['num_spectra'])} held-out spectra" if last.get("num_spectra") else "held-out spectra"
    if last.get("chi2") is not None:
        return f"Reconstructions of {spectra} have χ² per pixel {last['chi2']:.3f}."
    return f"The loss on {spectra} is {last['loss']:.4g}."


def _time_left(facts: RunFacts) -> str:
    progress = [mark for mark in facts.attempts[-1].progress if mark[1] <= facts.step]
    if len(progress) < 3 or facts.total_steps <= facts.step:
        return ""
    (first_time, first_step), (last_time, last_step) = progress[0], progress[-1]
    if last_step <= first_step:
        return ""
    seconds = (facts.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)
    return f", about {format_duration(seconds)} left"


def training_seconds(attempts: list[Attempt]) -> float:
    """Return the time attempts were at work, waiting not counted [s]."""
    return sum(attempt.seconds for attempt in attempts)


def key_numbers(facts: RunFacts) -> list[KeyNumber]:
    """Return the cards at the top of the report; a number that is not known is a dash."""
    return [*_quality(facts), *_effort(facts)]


def _quality(facts: RunFacts) -> list[KeyNumber]:
    history = facts.history
    evaluations = [record for record in history.evaluations if record.get("loss") is not None]
    losses = [record["loss"] for record in history.train if record.get("loss") is not None]
    last, best = (evaluations[-1] if evaluations else {}), history.best_evaluation() or {}
    spectra = f"mean of {grouped(last['num_spectra'])} held-out spectra" if last.get("num_spectra") else "held out"
    best_text = f"best {best['loss']:.4g} at step {grouped(best['step'])}" if best else "not evaluated yet"
    return [
        KeyNumber("χ² per pixel", _significant(last.get("chi2")), spectra if last else "not evaluated yet"),
        KeyNumber("Validation loss", _significant(last.get("loss")), best_text),
        KeyNumber(
            "Training loss",
            _significant(statistics.fmean(losses[-20:]) if losses else None),
            f"mean of the last {min(20, len(losses))} records" if losses else "nothing recorded yet",
        ),
        _updates(facts),
    ]


def _updates(facts: RunFacts) -> KeyNumber:
    epoch = next((r["epoch"] for r in reversed(facts.history.train) if r.get("epoch") is not None), None)
    remark = f"of {grouped(facts.total_steps)}" if facts.total_steps else ""
    if epoch is not None:
        remark += f"{', ' if remark else ''}{epoch:.4g} epochs"
    return KeyNumber("Updates", grouped(facts.step) if facts.attempts else DASH, remark)


def _effort(facts: RunFacts) -> list[KeyNumber]:
    attempts = facts.attempts
    rates = [r["samples_per_s"] for r in facts.history.train if r.get("samples_per_s")]
    last = attempts[-1] if attempts else None
    on = f"{last.world_size} × {last.device}" if last and last.device else "median"
    at_work = training_seconds(attempts)
    hours = sum(attempt.seconds * attempt.world_size for attempt in attempts) / 3600
    energy = sum_up(facts.ranks)
    kwh = f", {energy.kwh:.3g} kWh" if energy.kwh is not None else ""
    unit = "CPU rank" if last and last.device.lower().startswith("cpu") else "GPU"
    waited = _waited(facts)
    lost = sum(attempt.steps_lost for attempt in attempts)
    made = facts.step + lost
    share = f"{100 * lost / made:.2g} % of all made" if lost else "nothing was done twice"
    return [
        KeyNumber("Spectra per second", format_count(statistics.median(rates)) if rates else DASH, on),
        KeyNumber("Time at work", format_duration(at_work) if attempts else DASH, f"{hours:.3g} {unit} hours{kwh}"),
        KeyNumber(
            "Attempts", str(len(attempts)) if attempts else DASH, f"waited {format_duration(waited)}" if waited else ""
        ),
        KeyNumber("Steps lost", grouped(lost) if attempts else DASH, share if attempts else ""),
    ]


def _waited(facts: RunFacts) -> float:
    before = facts.submitted_at
    waited = 0.0
    for attempt in facts.attempts:
        if before is not None:
            waited += max(0.0, attempt.started_at - before)
        before = attempt.ended_at
    return waited


def warnings_of(facts: RunFacts) -> list[str]:
    """Return what a reader must know before believing the numbers, each in one line or a few."""
    found = [
        f"Attempt {record.get('attempt', '?')}: {describe_event(record)}"
        for record in facts.history.events
        if record.get("event") in _WARNING_EVENTS
    ]
    # The first of an attempt's tallies says that there is something, the last one how much.
    tallies = {record.get("attempt"): record for record in facts.history.named("bad_pixels")}
    found += [f"Attempt {number or '?'}: {describe_event(record)}." for number, record in tallies.items()]
    found += machine_warnings(facts.history.events)
    nonfinite = [r for r in [*facts.history.train, *facts.history.evaluations] if r.get("nonfinite")]
    if nonfinite:
        names = ", ".join(sorted({str(name) for record in nonfinite for name in record["nonfinite"]}))
        steps = f"first at step {grouped(nonfinite[0]['step'])}"
        found.append(f"{len(nonfinite)} records have numbers that are not finite ({names}), {steps}.")
    for attempt in facts.attempts:
        if attempt.outcome == "killed":
            code = f" (exit code {attempt.exit_code})" if attempt.exit_code else ""
            found.append(
                f"Attempt {attempt.number} ended without a goodbye at step {grouped(attempt.last_step)}{code}: killed, "
                "or its node was lost. Its logs may say more."
            )
    rejected = (facts.history.last("data") or {}).get("num_rejected")
    if rejected:
        found.append(f"{grouped(rejected)} spectra were rejected by the normalisation and carry no weight.")
    return [*found, *(f"{text[0].upper()}{text[1:]}" for text in facts.unreadable)]


def checkpoint_summary(facts: RunFacts) -> str:
    """Return one sentence on the checkpoints written; empty if there are none."""
    written = facts.history.named("checkpoint")
    if not written:
        return ""
    sizes = [record["bytes"] for record in written if record.get("bytes")]
    blocked = [record["blocked_s"] for record in written if record.get("blocked_s") is not None]
    text = "One checkpoint" if len(written) == 1 else f"{len(written)} checkpoints"
    text += f" of {format_bytes(sizes[-1])}" if sizes else ""
    text += " written"
    if blocked:
        text += f"; training stood still for {format_duration(sum(blocked))} in all" if sum(blocked) >= 1 else (
            f"; training stood still for {1000 * sum(blocked):.0f} ms in all"
        )  # fmt: skip
    return f"{text}."


def first_line(text: str) -> str:
    """Return the first line of a text, not too long for a table."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 160 else f"{line[:157]}…"


def _significant(value: float | None) -> str:
    return DASH if value is None else f"{value:.4g}".replace("-", "−")
