"""The events of training: evaluations, checkpoints, a loss that is not finite."""

from __future__ import annotations

from dataclasses import dataclass

from hpctrain.metrics.events.event import (
    NO_WORDS,
    Count,
    Entries,
    Event,
    Listed,
    Number,
    OpenCounts,
    OpenNumbers,
    Text,
    Texts,
    joined,
    shown,
)
from hpctrain.words import Words, format_bytes, format_number


@dataclass(frozen=True, kw_only=True)
class EvaluationEmpty(Event):
    """Written instead of an evaluation if no held-out sample carries weight.

    `counts` is the number of held-out samples; `reasons` the number of looked-at samples by reason.
    """

    name = "evaluation_empty"
    counts: OpenCounts
    reasons: Entries

    def describe(self, words: Words = NO_WORDS) -> str:
        reasons = self.reasons or {}
        why = f" ({'; '.join(f'{count}: {reason}' for reason, count in reasons.items())})" if reasons else ""
        number = shown((self.counts or {}).get(words.count_field))
        return (
            f"NO EVALUATION at step {self.step}: none of the {number} held-out {words.many} carries weight{why}; hold "
            "out more with data.split.validation"
        )


@dataclass(frozen=True, kw_only=True)
class Best(Event):
    """Written after an evaluation that is the best so far: `value` is the family's objective under its own name."""

    name = "best"
    value: OpenNumbers

    def describe(self, words: Words = NO_WORDS) -> str:
        name, value = next(iter((self.value or {}).items()), ("loss", None))
        return f"best validation {name.replace('_', ' ')} so far: {format_number(value)}"


@dataclass(frozen=True, kw_only=True)
class EarlyStopped(Event):
    """Written when ``train.early_stopping`` ends the training."""

    name = "early_stopped"
    best_step: Count

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"stopped early at step {self.step}: no better evaluation since step {shown(self.best_step)}"


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    """Written when a loss or gradient is not finite: the target ids of the objects to blame, and of the whole batch."""

    name = "diverged"
    quantity: Text
    objects: Listed
    batch: Listed

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"DIVERGED at step {self.step}; objects in the batch: {shown(self.objects)}"


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """Written when a checkpoint is on disk.

    `seconds` is the time to write it and `blocked_s` the time that training waited [s]; `made_room` has the names of
    the checkpoints that a full disk made us remove.
    """

    name = "checkpoint"
    path: Text
    retention_error: Text = None
    seconds: Number
    blocked_s: Number
    bytes: Count
    made_room: Texts = None

    def describe(self, words: Words = NO_WORDS) -> str:
        size = f", {format_bytes(self.bytes)}" if self.bytes else ""
        seconds = f" in {self.seconds:.2g} s" if self.seconds is not None else ""
        return f"checkpoint at step {self.step}{size}{seconds}{_made_room(self.made_room)}"


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """Written when a checkpoint could not be written; the older ones are untouched."""

    name = "checkpoint_failed"
    error: Text
    made_room: Texts = None

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"checkpoint at step {self.step} FAILED: {shown(self.error)}{_made_room(self.made_room)}"


@dataclass(frozen=True, kw_only=True)
class CheckpointMirrored(Event):
    """Written when a checkpoint has reached the mirror; the step is that of the checkpoint."""

    name = "checkpoint_mirrored"
    path: Text
    seconds: Number
    bytes: Count

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"checkpoint of step {self.step} copied to {shown(self.path)}"


@dataclass(frozen=True, kw_only=True)
class MirrorFailed(Event):
    """Written when a checkpoint has not reached the mirror; the run itself has it."""

    name = "mirror_failed"
    error: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"the mirror did not get the checkpoint of step {self.step}: {shown(self.error)}"


def _made_room(removed: Texts) -> str:
    return f"; the disk was full: removed {', '.join(removed)}" if removed else ""


@dataclass(frozen=True, kw_only=True)
class MadeRoom(Event):
    """Written when a full disk made the end of a run remove a checkpoint, so that the model could be written."""

    name = "made_room"
    made_room: Texts

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"the disk was full: removed {joined(self.made_room)}"


@dataclass(frozen=True, kw_only=True)
class CheckpointRejected(Event):
    """Written for each checkpoint that is damaged and therefore not used."""

    name = "checkpoint_rejected"
    path: Text
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"checkpoint {shown(self.path)} rejected: {shown(self.reason)}"
