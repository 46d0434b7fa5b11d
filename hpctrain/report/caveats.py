"""Things to know before believing the numbers of a run, each in a line or two with advice."""

from __future__ import annotations

import statistics
from typing import Any

from hpctrain.drawing.scale import grouped
from hpctrain.metrics.progress import describe_event
from hpctrain.report.curves import changes_of
from hpctrain.report.gather import RunFacts
from hpctrain.report.machine import machine_warnings

FEW_HELD_OUT = 20
"""Smallest number of held-out spectra whose mean is reliable."""
_OVERFITTED = 1.3
"""Ratio of validation loss to training loss above which the report warns of overfitting."""
_RISEN = 1.05
"""Ratio of the last validation loss to the best one above which the report says that it has risen."""
_LONGEST = 160
"""Largest number of characters to show of a message of another program; the log has the whole message."""

_EVENTS = (
    "checkpoint_rejected",
    "checkpoint_failed",
    "exporter_failed",
    "records_lost",
    "stage_fell_back",
    "diverged",
)

Record = dict[str, Any]


def caveats_of(facts: RunFacts) -> list[str]:
    """Return the things that a reader should know before believing the numbers, most important first."""
    return [
        *_device(facts),
        *_data(facts),
        *_overfitting(facts),
        *_evaluations(facts),
        *_changes(facts),
        *_failures(facts),
        *_events(facts),
        *machine_warnings(facts.history.events),
        *_nonfinite(facts),
        *_endings(facts),
        *(f"{text[0].upper()}{text[1:]}" for text in facts.unreadable),
    ]


def cut(text: str, most: int = _LONGEST) -> str:
    """Return the first line of a text, cut to the length of a line of the page."""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _device(facts: RunFacts) -> list[str]:
    event = facts.history.last("gpu_missing")
    if event is None:
        return []
    return [
        "The profile asks for GPUs, but the run used the CPU, which is many times slower: no GPU was found "
        f"({event.get('reason') or 'reason unknown'}). `nvidia-smi` on that machine shows whether there is one."
    ]


def _data(facts: RunFacts) -> list[str]:
    data = facts.history.last("data") or {}
    texts = [*data.get("warnings", []), *data.get("notes", [])]
    return [*(cut(f"{text[:1].upper()}{text[1:]}", 500) for text in texts), *_without_part(facts)]


def _weightless(facts: RunFacts) -> float:
    """Return the share of spectra in the recorded steps that did not contribute to the loss for any reason."""
    seen = without = 0.0
    for record in facts.history.train:
        if record["step"] > 0 and (spectra := _whole(record.get("samples_seen"))):
            seen += spectra / record["step"]
            without += _whole(record.get("num_rejected"))
    return without / seen if seen else 0.0


def _without_part(facts: RunFacts) -> list[str]:
    """Report the numbers of spectra with bad pixels and without weight; the records count them again in each epoch."""
    # The first count of an attempt shows that there are such spectra, the last one how many.
    tallies = {record.get("attempt"): record for record in facts.history.named("bad_pixels")}.values()
    num_read = sum(_whole(record.get("num_spectra")) for record in tallies)
    data = facts.history.last("data") or {}
    num_train = _whole(data.get("num_train"))

    def about(name: str) -> int:
        total = sum(_whole(record.get(name)) for record in tallies)
        return max(1, round(total / num_read * num_train)) if total and num_read else 0

    found = []
    if spectra := about("num_bad_spectra"):
        found.append(
            f"About {grouped(spectra)} of {grouped(num_train)} training spectra have bad pixels, about "
            f"{grouped(about('num_bad_pixels'))} in all: flux not finite, or ivar negative or not finite. They were "
            "masked; `data.bad_pixels: error` ends the run instead and names them."
        )
    masked, weightless = about("num_empty_spectra"), round(_weightless(facts) * num_train)
    is_noted = _whole(data.get("num_rejected")) > 0  # the notes of the event `data` name the reasons
    if (masked or weightless) and not is_noted:
        kinds = [f"about {grouped(masked)} are fully masked or have no redshift"] if masked else []
        if weightless > 1.2 * masked:
            kinds.append(
                f"the normalisation rejected about {grouped(weightless - masked)}, with too little signal in every "
                "window (data.normalise)"
            )
        found.append(
            f"About {grouped(max(masked, weightless))} of {grouped(num_train)} training spectra do not contribute to "
            f"the loss: {' and '.join(kinds)}. Run `hpctrain data doctor` on the files for details."
        )
    return found


def _overfitting(facts: RunFacts) -> list[str]:
    losses = [record["loss"] for record in facts.history.train if _is_number(record.get("loss"))]
    evaluations = [record for record in facts.history.evaluations if _is_number(record.get("loss"))]
    best = facts.history.best_evaluation()
    if not losses or not evaluations or best is None:
        return []
    last, training = evaluations[-1], statistics.fmean(losses[-20:])
    text = ""
    if training > 0 and last["loss"] > _OVERFITTED * training:
        ratio = last["loss"] / training
        text = (
            f"The validation loss ({last['loss']:.3g}) is {ratio:.2g} times the training loss ({training:.3g}): the "
            "network fits the spectra it was trained on better than new ones (overfitting), or the held-out spectra "
            "are different. More spectra help most; else a smaller network, model.dropout, or data.augment."
        )
    if best["loss"] > 0 and last["loss"] > _RISEN * best["loss"]:
        text += (
            f"{' ' if text else ''}The validation loss was lowest at step {grouped(best['step'])} "
            f"({best['loss']:.3g}) and has risen to {last['loss']:.3g} since: train.early_stopping would have stopped "
            "there and kept that model."
        )
    return [text] if text else []


def _evaluations(facts: RunFacts) -> list[str]:
    found = []
    records = facts.history.evaluations
    empty = facts.history.named("evaluation_empty")
    if empty:
        first = f"at step {grouped(min(record['step'] for record in empty))}"
        number = f"One evaluation had no usable held-out spectrum, {first}" if len(empty) == 1 else (
            f"{len(empty)} evaluations had no usable held-out spectrum, the first {first}"
        )  # fmt: skip
        found.append(f"{number}. Run `hpctrain data doctor` on the files to find the reason.")
    num_held_out = next((_whole(r.get("num_spectra")) for r in reversed(records) if r.get("num_spectra")), 0)
    if 0 < num_held_out < FEW_HELD_OUT:
        found.append(
            f"Only {num_held_out} held-out spectra: the validation loss and χ² depend on which ones they are. "
            "A larger data.split.validation, or more data, makes them reliable."
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


def _listed(numbers: list[int]) -> str:
    if len(numbers) > 6:
        return f"{', '.join(map(str, numbers[:5]))} and {len(numbers) - 5} more"
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _events(facts: RunFacts) -> list[str]:
    return [
        f"Attempt {record.get('attempt', '?')}: {cut(describe_event(record), 300)}"
        for record in facts.history.events
        if record.get("event") in _EVENTS
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> int:
    return int(value) if _is_number(value) else 0
