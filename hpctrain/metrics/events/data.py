"""The events of the data: what was found, copied, decoded, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpctrain.metrics.events.event import NO_WORDS, Count, Entries, Event, Number, OpenCounts, Text, Texts, shown
from hpctrain.words import Words, format_bytes, format_duration


@dataclass(frozen=True, kw_only=True)
class DataFound(Event):
    """Written after ``started``: the samples of the run, and the findings of the inspection.

    `counts` are those of the kind of data: first the number of samples, such as ``num_spectra``, then sizes of a
    sample and what the inspection counted (:meth:`~hpctrain.profile.inspection.Inspection.counts`).
    """

    name = "data"
    counts: OpenCounts
    num_train: Count
    num_validation: Count
    warnings: Texts
    notes: Texts

    def to_record(self) -> dict[str, Any]:
        record = super().to_record()
        first = [name for name in self.counts or () if name in record][:1]
        order = ["event", *first, "num_train", "num_validation", *(self.counts or ()), "warnings", "notes"]
        return {name: record[name] for name in order}

    def describe(self, words: Words = NO_WORDS) -> str:
        counts = self.counts or {}
        text = (
            f"{shown(counts.get(words.count_field))} {words.many}: {shown(self.num_train)} to train on, "
            f"{shown(self.num_validation)} held out"
        )
        rejected, inspected = counts.get("num_rejected"), counts.get("num_inspected")
        if rejected and inspected:
            text += f"; {rejected} of {inspected} inspected ones carry no weight"
        lines = [f"WARNING: {warning}" for warning in self.warnings or ()]
        return "\n  ".join([text, *lines, *(f"note: {note}" for note in self.notes or ())])


@dataclass(frozen=True, kw_only=True)
class Staged(Event):
    """Written when files have been copied to the disks of `nodes` nodes; `remote` has the versions of fetched files."""

    name = "staged"
    nodes: Count
    files: Count
    bytes: Count
    copied_bytes: Count
    seconds: Number
    remote: Entries = None

    def describe(self, words: Words = NO_WORDS) -> str:
        where = f" on {self.nodes} nodes" if (self.nodes or 1) > 1 else ""
        copied = f"{format_bytes(self.copied_bytes or 0)} of {format_bytes(self.bytes or 0)} copied"
        files = "1 file" if self.files == 1 else f"{shown(self.files)} files"
        return f"{files} staged{where} in {format_duration(self.seconds or 0)}: {copied}"


@dataclass(frozen=True, kw_only=True)
class StageFellBack(Event):
    """Written for each node that could not copy the files and reads the originals."""

    name = "stage_fell_back"
    node: Text
    reason: Text

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"NOT staged on {shown(self.node)}, which reads the originals: {shown(self.reason)}"


@dataclass(frozen=True, kw_only=True)
class Cached(Event):
    """Written when the samples have been decoded into memory (``data.cache: ram``)."""

    name = "cached"
    bytes: Count
    seconds: Number

    def describe(self, words: Words = NO_WORDS) -> str:
        time = format_duration(self.seconds or 0)
        return f"{format_bytes(self.bytes or 0)} of {words.many} decoded into memory in {time}"


@dataclass(frozen=True, kw_only=True)
class BatchSizeFound(Event):
    """Written when ``train.batch_size: auto`` has been replaced by a number, once per run."""

    name = "batch_size"
    batch_size: Count
    accumulation: Count
    needed_gib: Number
    free_gib: Number

    def describe(self, words: Words = NO_WORDS) -> str:
        return (
            f"batches of {shown(self.batch_size)} {words.many}, accumulation {shown(self.accumulation)}: "
            f"about {shown(self.needed_gib)} of {shown(self.free_gib)} GiB that were free"
        )


@dataclass(frozen=True, kw_only=True)
class BadValues(Event):
    """Written when an attempt reads its first bad values, and at its end: the counts so far.

    `counts` are those that the kind of data defines (``Kind.bad_sums``), unless 0, and the number of samples read.
    """

    name = "bad_pixels"
    counts: OpenCounts

    def describe(self, words: Words = NO_WORDS) -> str:
        counts = self.counts or {}
        read = f"{shown(counts.get(words.count_field))} {words.many} read (again in each epoch)"
        return f"up to step {self.step}, of {read}: {'; '.join(words.in_words(counts))}"
