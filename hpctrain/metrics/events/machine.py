"""The events of the machine: sensors, pace, memory, power."""

from __future__ import annotations

from dataclasses import dataclass

from hpctrain.metrics.events.event import NO_WORDS, Count, Entries, Event, Listed, Number, Text, shown
from hpctrain.words import Words, format_bytes


@dataclass(frozen=True, kw_only=True)
class SensorsFound(Event):
    """Written at the first sample: the values that are read, and why others are absent; again if more are absent."""

    name = "sensors"
    found: Listed
    absent: Entries

    def describe(self, words: Words = NO_WORDS) -> str:
        if not self.absent:
            return f"{len(self.found or ())} sensors of this machine are read"
        return f"sensors not available here: {', '.join(f'{name} ({why})' for name, why in self.absent.items())}"


_PACE_WORDS = {"ok": "full speed again", "warm": "slows down", "hot": "waits", "critical": "saves and exits"}


@dataclass(frozen=True, kw_only=True)
class PaceChanged(Event):
    """Written when heat or power changes the pace of the run."""

    name = "pace"
    level: Text
    before: Text
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        level = shown(self.level)
        return f"{level}: {_PACE_WORDS.get(level, level)} at step {self.step} ({shown(self.reason)})"


@dataclass(frozen=True, kw_only=True)
class Traced(Event):
    """Written after the last step of ``train.profile_steps``: `path` is that of the trace in the run directory."""

    name = "traced"
    path: Text
    first_step: Count
    last_step: Count
    seconds: Number
    bytes: Count

    def describe(self, words: Words = NO_WORDS) -> str:
        size = "" if self.bytes is None else f" ({format_bytes(self.bytes)})"
        return (
            f"the profiler recorded steps {shown(self.first_step)} to {shown(self.last_step)}: "
            f"{shown(self.path, 'traces/')}{size}; hpctrain trace says what takes the time"
        )


@dataclass(frozen=True, kw_only=True)
class NotTraced(Event):
    """Written if the steps of ``train.profile_steps`` cannot be recorded."""

    name = "not_traced"
    first_step: Count
    last_step: Count
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        steps = f"{shown(self.first_step)} to {shown(self.last_step)}"
        return f"no trace of steps {steps} (train.profile_steps): {shown(self.reason, 'reason unknown')}"


@dataclass(frozen=True, kw_only=True)
class OverCurrent(Event):
    """Written when the board reports over-current."""

    name = "over_current"
    what: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"over-current: {shown(self.what)}"


@dataclass(frozen=True, kw_only=True)
class MemoryShort(Event):
    """Written when the node begins to run out of memory."""

    name = "memory_short"
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"MEMORY IS SHORT: {shown(self.reason)}; a smaller data.prefetch_batches or train.batch_size needs less"


@dataclass(frozen=True, kw_only=True)
class PowerMode(Event):
    """Written with the power mode of the board at the first sample, and when it changes."""

    name = "power_mode"
    mode: Text
    before: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"power mode {shown(self.mode)}" + (f", was {self.before}" if self.before else "")
