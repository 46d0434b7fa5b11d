"""The words for numbers and events, which log, progress line, status and report share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def format_duration(seconds: float) -> str:
    """Return a duration with its two largest units: ``42 s``, ``3 min 20 s``, ``5 h 07 min``, ``2 d 03 h``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600:02d} h"


def format_count(value: float) -> str:
    """Return a rate or count with three digits: ``7.25``, ``842``, ``12.3k``, ``4.1M``."""
    number, suffix = _scaled(value)
    return f"{number}{suffix}"


def format_bytes(size: float) -> str:
    """Return a size in decimal units, as vendors of disks use them: ``162 MB``."""
    number, suffix = _scaled(size)
    return f"{number} {suffix}B"


def _scaled(value: float) -> tuple[str, str]:
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}", suffix
    return f"{value:.3g}", ""


def format_number(value: float | None) -> str:
    """Return a number with four digits; None stands for one that was not finite."""
    return "not finite" if value is None else f"{value:.4g}"


def describe_event(record: dict[str, Any]) -> str:
    """Return an event in words: one line, and one for each note. An unknown event is shown with its fields."""
    name = record.get("event", "event")
    text = _EVENT_TEXTS.get(name)
    fields = {key: value for key, value in record.items() if key not in ("kind", "event", "step", "time", "attempt")}
    if text:
        try:
            return text(record, fields)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            pass  # a damaged record: its fields have wrong types, so show them as they are
    values = ", ".join(f"{key} {value}" for key, value in fields.items())
    return f"{name.replace('_', ' ')} at step {record['step']}" + (f": {values}" if values else "")


def _started(record: dict[str, Any], fields: dict[str, Any]) -> str:
    hosts = fields.get("hosts") or ""
    where = f" on {hosts if isinstance(hosts, str) else ', '.join(hosts)}" if hosts else ""
    ranks = f"{fields.get('world_size', 1)} × {fields.get('device', 'device unknown')}"
    steps = f"step {fields.get('start_step', record['step'])} of {fields.get('total_steps', '?')}"
    return f"attempt {record.get('attempt', 1)} started at {steps}: {ranks}{where}"


def _checkpoint(record: dict[str, Any], fields: dict[str, Any]) -> str:
    size = f", {format_bytes(fields['bytes'])}" if fields.get("bytes") else ""
    seconds = f" in {fields['seconds']:.2g} s" if fields.get("seconds") is not None else ""
    return f"checkpoint at step {record['step']}{size}{seconds}{_made_room(fields)}"


def _made_room(fields: dict[str, Any]) -> str:
    removed = fields.get("made_room")
    return f"; the disk was full: removed {', '.join(removed)}" if removed else ""


def _resumed(record: dict[str, Any], fields: dict[str, Any]) -> str:
    lost = fields.get("steps_lost") or 0
    return f"resumed from {fields.get('checkpoint', 'a checkpoint')}" + (
        f"; {lost} steps are done again" if lost else ""
    )


def _profile_changed(record: dict[str, Any], fields: dict[str, Any]) -> str:
    changes = [
        f"{change.get('key')} {_value(change.get('old'))} → {_value(change.get('new'))}"
        for change in fields.get("changes") or []
        if isinstance(change, dict)
    ]
    return f"changed at this resume (step {record['step']}): {', '.join(changes)}"


def _value(value: Any) -> str:
    return json.dumps(value)


def _data(record: dict[str, Any], fields: dict[str, Any]) -> str:
    text = (
        f"{fields.get('num_spectra', '?')} spectra: {fields.get('num_train', '?')} to train on, "
        f"{fields.get('num_validation', '?')} held out"
    )
    if fields.get("num_rejected") and fields.get("num_inspected"):
        text += f"; {fields['num_rejected']} of {fields['num_inspected']} inspected ones carry no weight"
    lines = [f"WARNING: {warning}" for warning in fields.get("warnings", [])]
    return "\n  ".join([text, *lines, *(f"note: {note}" for note in fields.get("notes", []))])


def _gpu_missing(record: dict[str, Any], fields: dict[str, Any]) -> str:
    return (
        f"NO GPU: launch.gpus_per_node is {fields.get('gpus_per_node')}, but this attempt trains on the CPU, which is "
        f"many times slower ({fields.get('reason')}). On a machine without a GPU set launch.gpus_per_node: 0; "
        "train.device: cuda refuses the CPU"
    )


def _evaluation_empty(record: dict[str, Any], fields: dict[str, Any]) -> str:
    reasons = fields.get("reasons") or {}
    why = f" ({'; '.join(f'{count}: {reason}' for reason, count in reasons.items())})" if reasons else ""
    return (
        f"NO EVALUATION at step {record['step']}: none of the {fields.get('num_spectra')} held-out spectra carries "
        f"weight{why}; hold out more with data.split.validation"
    )


def _bad_pixels(record: dict[str, Any], fields: dict[str, Any]) -> str:
    parts = []
    if fields.get("num_bad_pixels"):
        parts.append(
            f"{fields['num_bad_pixels']} pixels of {fields['num_bad_spectra']} spectra (flux not finite, ivar "
            "negative or not finite) have been masked"
        )
    if fields.get("num_empty_spectra"):
        parts.append(f"{fields['num_empty_spectra']} spectra are fully masked and do not contribute to the loss")
    read = f"{fields.get('num_spectra', '?')} spectra read (again in each epoch)"
    return f"up to step {record['step']}, of {read}: {'; '.join(parts)}"


def _staged(record: dict[str, Any], fields: dict[str, Any]) -> str:
    where = f" on {fields['nodes']} nodes" if fields.get("nodes", 1) > 1 else ""
    copied = f"{format_bytes(fields.get('copied_bytes', 0))} of {format_bytes(fields.get('bytes', 0))} copied"
    files = "1 file" if fields.get("files") == 1 else f"{fields.get('files')} files"
    return f"{files} staged{where} in {format_duration(fields.get('seconds', 0))}: {copied}"


def _finished(record: dict[str, Any], fields: dict[str, Any]) -> str:
    text = f"finished at step {record['step']}"
    if fields.get("seconds") is not None:
        text += f" after {format_duration(fields['seconds'])}"
    if fields.get("energy_kwh") is not None:
        text += f", {fields['energy_kwh']:.3g} kWh"
        if fields.get("joules_per_sample") is not None:
            text += f" ({fields['joules_per_sample']:.3g} J per spectrum)"
    return text


def _sensors(record: dict[str, Any], fields: dict[str, Any]) -> str:
    absent = fields.get("absent") or {}
    if not absent:
        return f"{len(fields.get('found') or [])} sensors of this machine are read"
    return f"sensors not available here: {', '.join(f'{name} ({why})' for name, why in absent.items())}"


_PACE_WORDS = {"ok": "full speed again", "warm": "slows down", "hot": "waits", "critical": "saves and exits"}


def _pace(record: dict[str, Any], fields: dict[str, Any]) -> str:
    level = str(fields.get("level"))
    return f"{level}: {_PACE_WORDS.get(level, level)} at step {record['step']} ({fields.get('reason')})"


_EVENT_TEXTS: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "started": _started,
    "data": _data,
    "gpu_missing": _gpu_missing,
    "evaluation_empty": _evaluation_empty,
    "resumed": _resumed,
    "profile_changed": _profile_changed,
    "checkpoint": _checkpoint,
    "checkpoint_failed": lambda record, f: (
        f"checkpoint at step {record['step']} FAILED: {f.get('error', f)}{_made_room(f)}"
    ),
    "made_room": lambda record, f: f"the disk was full: removed {', '.join(f.get('made_room', []))}",
    "checkpoint_rejected": lambda record, f: f"checkpoint {f.get('path')} rejected: {f.get('reason')}",
    "staged": _staged,
    "stage_fell_back": lambda record, f: f"NOT staged on {f.get('node')}, which reads the originals: {f.get('reason')}",
    "cached": lambda record, f: (
        f"{format_bytes(f.get('bytes', 0))} of spectra decoded into memory in {format_duration(f.get('seconds', 0))}"
    ),
    "batch_size": lambda record, f: (
        f"batches of {f.get('batch_size')} spectra, accumulation {f.get('accumulation')}: "
        f"about {f.get('needed_gib')} of {f.get('free_gib')} GiB that were free"
    ),
    "first_step": lambda record, f: f"first step {f.get('seconds', 0):.1f} s after the start of the process",
    "bad_pixels": _bad_pixels,
    "best": lambda record, f: f"best validation loss so far: {format_number(f.get('loss'))}",
    "stop_requested": lambda record, f: f"asked to stop ({f.get('cause', 'unknown cause')}) at step {record['step']}",
    "stopped": lambda record, f: (
        f"stopped at step {record['step']} ({f.get('cause', 'unknown cause')}), exit code {f.get('exit_code')}"
    ),
    "early_stopped": lambda record, f: f"stopped early at step {record['step']}: no better validation loss",
    "diverged": lambda record, f: f"DIVERGED at step {record['step']}; objects in the batch: {f.get('objects')}",
    "finished": _finished,
    "sensors": _sensors,
    "pace": _pace,
    "over_current": lambda record, f: f"over-current: {f.get('what')}",
    "memory_short": lambda record, f: (
        f"MEMORY IS SHORT: {f.get('reason')}; a smaller data.prefetch_batches or train.batch_size needs less"
    ),
    "power_mode": lambda record, f: f"power mode {f.get('mode')}" + (f", was {f['before']}" if f.get("before") else ""),
    "failed": lambda record, f: f"FAILED at step {record['step']}: {f.get('error')} (exit code {f.get('exit_code')})",
    "exporter_failed": lambda record, f: f"{f.get('exporter')} failed and is off: {f.get('error')}",
    "records_lost": lambda record, f: f"{f.get('records')} records could not be written",
}
