"""Things to know before believing the numbers of a run, each in a line or two with advice."""

from __future__ import annotations

import statistics
from typing import Any

from hpctrain.drawing.scale import grouped
from hpctrain.families.shown import FEW_HELD_OUT
from hpctrain.metrics.events import (
    CheckpointFailed,
    CheckpointRejected,
    Diverged,
    EvaluationEmpty,
    ExporterFailed,
    Finished,
    GpuMissing,
    RecordsLost,
    StageFellBack,
)
from hpctrain.records import is_number
from hpctrain.report.curves import changes_of
from hpctrain.report.family import own_caveats
from hpctrain.report.gather import RunFacts
from hpctrain.report.machine import machine_warnings
from hpctrain.report.text import cut
from hpctrain.report.validation import validation_caveats

_OVERFITTED = 1.3
"""Ratio of validation loss to training loss above which the report warns of overfitting."""
_RISEN = 1.05
"""Ratio of the last validation loss to the best one above which the report says that it has risen."""
_EVENTS = (CheckpointRejected, CheckpointFailed, ExporterFailed, RecordsLost, StageFellBack, Diverged)


def caveats_of(facts: RunFacts) -> list[str]:
    """Return the things that a reader should know before believing the numbers, most important first."""
    found = [*_data(facts), *_overfitting(facts), *_evaluations(facts)]
    return [
        *_validation(facts),
        *_device(facts),
        *dict.fromkeys(facts.model.problems),  # after `found`, which asks the family
        *found,
        *_changes(facts),
        *_failures(facts),
        *_events(facts),
        *machine_warnings(facts.history.events),
        *_nonfinite(facts),
        *_endings(facts),
        *(f"{text[0].upper()}{text[1:]}" for text in facts.unreadable),
    ]


def _validation(facts: RunFacts) -> list[str]:
    finished = facts.history.newest(Finished)
    return validation_caveats(facts.validation, finished.sha256 if finished else None)


def _device(facts: RunFacts) -> list[str]:
    event = facts.history.newest(GpuMissing)
    if event is None:
        return []
    return [
        "The profile asks for GPUs, but the run used the CPU, which is many times slower: no GPU was found "
        f"({event.reason or 'reason unknown'}). `nvidia-smi` on that machine shows whether there is one."
    ]


def _data(facts: RunFacts) -> list[str]:
    data = facts.history.data
    texts = [*(data.warnings or ()), *(data.notes or ())] if data else []
    return [
        *(cut(f"{text[:1].upper()}{text[1:]}", 500) for text in texts),
        *own_caveats(facts.model, facts.history),
    ]


def _overfitting(facts: RunFacts) -> list[str]:
    losses = [record["loss"] for record in facts.history.train if is_number(record.get("loss"))]
    evaluations = [record for record in facts.history.evaluations if is_number(record.get("loss"))]
    if not losses or not evaluations:
        return []
    last, training = evaluations[-1], statistics.fmean(losses[-20:])
    texts = []
    if training > 0 and last["loss"] > _OVERFITTED * training:
        ratio, many = last["loss"] / training, facts.model.many
        texts.append(
            f"The validation loss ({last['loss']:.3g}) is {ratio:.2g} times the training loss ({training:.3g}): the "
            f"{facts.model.noun} fits the {many} it was trained on better than new ones (overfitting), or the held-out "
            f"{many} are different. More {many} help most; else {facts.model.family.against_overfitting}."
        )
    texts += _worsened(facts)
    return [" ".join(texts)] if texts else []


def _worsened(facts: RunFacts) -> list[str]:
    """Report that the objective was better before."""
    objective, best = facts.model.family.objective, facts.best_evaluation()
    if best is None:
        return []
    metric, lower = objective.metric, objective.lower_is_better
    last = next(r for r in reversed(facts.history.evaluations) if is_number(r.get(metric)))
    value, was = last[metric], best[metric]
    if was <= 0 or (value <= _RISEN * was if lower else value * _RISEN >= was):
        return []
    extreme, changed = ("lowest", "risen") if lower else ("highest", "fallen")
    return [
        f"The validation {metric.replace('_', ' ')} was {extreme} at step {grouped(best['step'])} ({was:.3g}) and has "
        f"{changed} to {value:.3g} since: train.early_stopping would have stopped there and kept that model."
    ]


def _evaluations(facts: RunFacts) -> list[str]:
    found = []
    one, many = facts.model.one, facts.model.many
    empty = facts.history.all_of(EvaluationEmpty)
    if empty:
        first = f"at step {grouped(min(event.step for event in empty))}"
        number = f"One evaluation had no usable held-out {one}, {first}" if len(empty) == 1 else (
            f"{len(empty)} evaluations had no usable held-out {one}, the first {first}"
        )  # fmt: skip
        found.append(f"{number}. Run `hpctrain data doctor` on the files to find the reason.")
    counts = (facts.num_held_out(record) for record in reversed(facts.history.evaluations))
    number = next((count for count in counts if count), 0)
    if 0 < number < FEW_HELD_OUT:
        numbers = ["the validation loss", *(curve.short for curve in facts.model.curves if curve.first)]
        found.append(
            f"Only {number} held-out {many}: {_listed(numbers)} depend{'s' if len(numbers) == 1 else ''} on which ones "
            "they are. A larger data.split.validation, or more data, makes them reliable."
        )
    return found


def _changes(facts: RunFacts) -> list[str]:
    return [
        f"The profile was changed when the run resumed at step {grouped(step)}: {cut(text)} (marked on the curves)."
        for step, text in changes_of(facts.history)
    ]


def _failures(facts: RunFacts) -> list[str]:
    """Report the error of each failed attempt in one line, each error once; the summary has that of the last one."""
    attempts: dict[str, list[int]] = {}
    for attempt in facts.attempts:
        if attempt.outcome == "failed":
            attempts.setdefault(cut(attempt.cause), []).append(attempt.number)
    last = facts.attempts[-1] if facts.attempts else None
    found = []
    for text, numbers in attempts.items():
        if last is not None and numbers == [last.number]:
            continue
        who = f"Attempt {numbers[0]}" if len(numbers) == 1 else f"Attempts {_listed(numbers)}"
        found.append(f"{who} failed: {text} (`hpctrain logs` shows the whole message)")
    return found


def _listed(words: list[Any]) -> str:
    if len(words) > 6:
        return f"{', '.join(map(str, words[:5]))} and {len(words) - 5} more"
    return " and ".join(part for part in (", ".join(map(str, words[:-1])), str(words[-1])) if part)


def _events(facts: RunFacts) -> list[str]:
    return [
        f"Attempt {event.attempt or '?'}: {cut(event.describe(facts.model.kind.words), 300)}"
        for event in facts.history.events
        if isinstance(event, _EVENTS)
    ]


def _nonfinite(facts: RunFacts) -> list[str]:
    measured = [*facts.history.train, *facts.history.evaluations]
    records = sorted((r for r in measured if r.get("nonfinite")), key=lambda record: record["step"])
    if not records:
        return []
    names = ", ".join(sorted({str(name) for record in records for name in record["nonfinite"]}))
    number = facts.history.num_nonfinite
    counted = "1 record has" if number == 1 else f"{grouped(number)} records have"
    first = grouped(records[0]["step"])
    return [f"{counted} numbers that are not finite ({names}), the first at step {first}."]


def _endings(facts: RunFacts) -> list[str]:
    found = []
    for attempt in facts.attempts:
        if attempt.outcome == "killed":
            code = f" (exit code {attempt.exit_code})" if attempt.exit_code else ""
            found.append(
                f"Attempt {attempt.number} ended without a final record at step {grouped(attempt.last_step)}{code}: it "
                "was killed, or its node was lost. `hpctrain logs` may say more."
            )
    return found
