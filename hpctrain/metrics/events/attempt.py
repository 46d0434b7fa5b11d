"""The events of an attempt: how it begins and how it ends."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hpctrain.metrics.events.event import (
    NO_WORDS,
    Count,
    Entries,
    Event,
    ListedEntries,
    Number,
    Text,
    TextOrTexts,
    Whole,
    joined,
    shown,
)
from hpctrain.words import Words, format_duration


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Written when an attempt is ready for its first step."""

    name = "started"
    job_id: Text
    restart_count: Count
    world_size: Count
    num_nodes: Count
    hosts: TextOrTexts
    start_step: Count
    total_steps: Count
    torch: Text
    num_parameters: Count
    accumulation: Count
    device: Text
    device_memory_gib: Number = None

    def describe(self, words: Words = NO_WORDS) -> str:
        where = f" on {joined(self.hosts)}" if self.hosts else ""
        ranks = f"{shown(self.world_size, '1')} × {shown(self.device, 'device unknown')}"
        first = self.step if self.start_step is None else self.start_step
        return f"attempt {self.attempt or 1} started at step {first} of {shown(self.total_steps)}: {ranks}{where}"


@dataclass(frozen=True, kw_only=True)
class GpuMissing(Event):
    """Written after ``data`` if the profile asks for GPUs and the attempt trains on a CPU."""

    name = "gpu_missing"
    gpus_per_node: Count
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return (
            f"NO GPU: launch.gpus_per_node is {shown(self.gpus_per_node)}, but this attempt trains on the CPU, which "
            f"is many times slower ({shown(self.reason, 'reason unknown')}). On a machine without a GPU set "
            "launch.gpus_per_node: 0; train.device: cuda refuses the CPU"
        )


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """Written before ``started`` if the attempt continues from a checkpoint; `steps_lost` are done again."""

    name = "resumed"
    checkpoint: Text
    steps_lost: Count

    def describe(self, words: Words = NO_WORDS) -> str:
        again = f"; {self.steps_lost} steps are done again" if self.steps_lost else ""
        return f"resumed from {shown(self.checkpoint, 'a checkpoint')}{again}"


@dataclass(frozen=True, kw_only=True)
class ProfileChanged(Event):
    """Written before ``started`` if a user has changed the profile since the last attempt that trained.

    Each of the `changes` has ``key``, ``old`` and ``new``.
    """

    name = "profile_changed"
    changes: ListedEntries

    def describe(self, words: Words = NO_WORDS) -> str:
        changes = [
            f"{change.get('key')} {json.dumps(change.get('old'))} → {json.dumps(change.get('new'))}"
            for change in self.changes or ()
        ]
        return f"changed at this resume (step {self.step}): {', '.join(changes)}"


@dataclass(frozen=True, kw_only=True)
class FirstStep(Event):
    """Written after the first step of an attempt: the time since the process began, and its parts `of` by name [s]."""

    name = "first_step"
    seconds: Number
    of: Entries

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"first step {self.seconds or 0:.1f} s after the start of the process"


@dataclass(frozen=True, kw_only=True)
class StopRequested(Event):
    """Written when the ranks have agreed to stop."""

    name = "stop_requested"
    cause: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"asked to stop ({shown(self.cause, 'unknown cause')}) at step {self.step}"


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The last event of an attempt that has saved its state and can be resumed."""

    name = "stopped"
    cause: Text
    exit_code: Whole

    def describe(self, words: Words = NO_WORDS) -> str:
        cause = shown(self.cause, "unknown cause")
        return f"stopped at step {self.step} ({cause}), exit code {shown(self.exit_code)}"


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The last event of an attempt that ended with an error."""

    name = "failed"
    error: Text
    exit_code: Whole

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"FAILED at step {self.step}: {shown(self.error)} (exit code {shown(self.exit_code)})"


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The last event of a run: the model is written.

    `seconds` is the time of this attempt; `check_max_difference` is the largest relative difference between predictions
    of the trained model and of the model read back. The energy is that of all ranks and attempts.
    """

    name = "finished"
    seconds: Number
    sha256: Text
    check_max_difference: Number
    best_step: Count
    energy_kwh: Number = None
    energy_unmeasured_s: Number = None
    rested_s: Number = None
    joules_per_sample: Number = None

    def describe(self, words: Words = NO_WORDS) -> str:
        text = f"finished at step {self.step}"
        if self.seconds is not None:
            text += f" after {format_duration(self.seconds)}"
        if self.energy_kwh is not None:
            text += f", {self.energy_kwh:.3g} kWh"
            if self.joules_per_sample is not None:
                text += f" ({self.joules_per_sample:.3g} J per {words.one})"
        return text


@dataclass(frozen=True, kw_only=True)
class ExporterFailed(Event):
    """Written when an exporter cannot be opened, or fails and gets no more records."""

    name = "exporter_failed"
    exporter: Text
    error: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"{shown(self.exporter)} failed and is off: {shown(self.error)}"


@dataclass(frozen=True, kw_only=True)
class RecordsLost(Event):
    """Written as soon as there is room again after records could not be written."""

    name = "records_lost"
    records: Count

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"{shown(self.records)} records could not be written"
