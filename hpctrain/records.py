"""Types of the entries of a run's records: one table per kind of file, and one function that checks a record.

A record on a disk may be damaged: a byte may have flipped, or somebody may have edited it. This module, and no other,
treats an entry with an impossible value as missing, so that readers of records need no checks of their own. Entries
that no table names remain unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Record = dict[str, Any]
Types = Mapping[str, Callable[[Any], bool]]

_LARGEST_COUNT = 2**53
_LARGEST_NUMBER = 1e100
"""Largest plausible number: a larger one means damage; the square of this one still fits a double."""
_LATEST = 1e11
"""Latest plausible time, some thousand years ahead [s since 1970]; the C library cannot convert much later times."""
_LONGEST_INTERVAL_S = 3600.0
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of any sign, such as an exit code."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_COUNT


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) <= _LARGEST_NUMBER if isinstance(value, float) else is_whole(value)


def is_number_or_null(value: Any) -> bool:
    """Return whether a value is a finite number, or null, which replaces a number that was not finite."""
    return value is None or is_number(value)


def is_moment(value: Any) -> bool:
    """Return whether a value is a time in seconds since 1970."""
    return is_number(value) and 0 <= value <= _LATEST


def is_interval(value: Any) -> bool:
    """Return whether a value is a time between two heartbeats [s]."""
    return is_number(value) and 0 < value <= _LONGEST_INTERVAL_S


def is_text(value: Any) -> bool:
    """Return whether a value is text."""
    return isinstance(value, str)


def is_job_id(value: Any) -> bool:
    """Return whether a value can be the id of a job, and never an option of a command."""
    return isinstance(value, str) and _JOB_ID.fullmatch(value) is not None


def is_texts(value: Any) -> bool:
    """Return whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_text_or_texts(value: Any) -> bool:
    """Return whether a value is text or a list of texts."""
    return is_text(value) or is_texts(value)


def is_flag(value: Any) -> bool:
    """Return whether a value is true or false."""
    return isinstance(value, bool)


def is_list(value: Any) -> bool:
    """Return whether a value is a list."""
    return isinstance(value, list)


def is_record(value: Any) -> bool:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_texts_by_name(value: Any) -> bool:
    """Return whether a value is a JSON object whose values are texts."""
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def is_identity(value: Any) -> bool:
    """Return whether a value is a result of ``distributed.process.identity``."""
    return isinstance(value, dict) and len(well_typed(value, IDENTITY)) == len(value) and "pid" in value


def _null_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


IDENTITY: Types = {
    "pid": is_count,
    "boot_id": _null_or(is_text),
    "pid_namespace": _null_or(is_text),
    "started_ticks": _null_or(is_count),
}
LEASE: Types = {
    "attempt": is_count,
    "started_at": is_moment,
    "process": is_identity,
    "job_id": is_text,
    "restart_count": is_count,
    "world_size": is_count,
    "num_nodes": is_count,
    "launcher": is_text,
    "hosts": is_text_or_texts,
    "profile": is_record,
}
"""``attempts/0001.json``"""
HEARTBEAT: Types = {
    "rank": is_count,
    "world_size": is_count,
    "attempt": is_count,
    "job_id": is_text,
    "pid": is_count,
    "host": is_text,
    "process": is_identity,
    "interval_s": is_interval,
    "step": is_count,
    "total_steps": is_count,
    "state": is_text,
    "time": is_moment,
}
"""``heartbeat/rank-0000.json``"""
SUPERVISOR: Types = {
    "job_id": is_text,
    "pid": is_count,
    "host": is_text,
    "restart": is_count,
    "process": is_identity,
    "waits_for": is_texts,
}
"""``attempts/supervisor.json``"""
JOB: Types = {
    "run_id": is_text,
    "name": is_text,
    "cluster": is_text,
    "submitted_at": is_moment,
    "command": is_texts,
    "trainer": is_texts,
    "beside": is_texts,
    "environment": is_texts_by_name,
    "world_size": is_count,
    "requeue": is_flag,
    "max_attempts": is_count,
    "max_attempts_without_progress": is_count,
    "time_limit_s": is_count,
    "lead_s": is_count,
    "num_nodes": is_count,
    "partition": is_text,
    "shortest_slice_s": is_count,
    "home": is_text,
    "after": is_texts,
    "submissions": is_list,
}
"""``job.json``"""
SUBMISSION: Types = {
    "job_id": is_job_id,
    "array_index": _null_or(is_count),
    "submitted_at": is_moment,
    "job_name": is_text,
    "cluster_name": is_text,
}
"""One entry of ``submissions`` in ``job.json``."""

_COUNTS = (
    "world_size", "num_nodes", "start_step", "total_steps", "num_parameters", "accumulation", "steps_lost",
    "restart_count", "records", "best_step", "num_train", "num_validation", "num_rejected", "num_bad_pixels",
    "num_bad_spectra", "num_empty_spectra", "num_inspected", "num_without_redshift", "num_zwarn", "num_stars",
    "num_sky", "gpus_per_node", "files", "nodes", "bytes", "copied_bytes",
    "slowest_rank", "first_step", "last_step",
)  # fmt: skip
_NUMBERS = (
    "loss", "chi2", "kl", "lr", "grad_norm", "samples_per_s", "samples_seen", "epoch", "memory_gib", "num_spectra",
    "num_pixels", "seconds", "blocked_s", "energy_kwh", "joules_per_sample", "needed_gib", "free_gib", "duty",
    "data_wait_share", "exchange_share", "peer_wait_share", "slowest_data_wait_share",
)  # fmt: skip
_TEXTS = (
    "event", "cause", "error", "checkpoint", "device", "job_id", "level", "before", "reason", "path",
    "exporter", "node", "mode", "what", "sha256", "torch", "pace",
)  # fmt: skip
METRIC: Types = {
    "kind": is_text,
    "step": is_count,
    "time": is_moment,
    "attempt": is_count,
    "exit_code": is_whole,
    "hosts": is_text_or_texts,
    "nonfinite": is_texts,
    "absent": is_record,
    "found": is_list,
    "objects": is_list,
    "changes": is_list,
    "reasons": is_record,
    "warnings": is_texts,
    "notes": is_texts,
    **dict.fromkeys(_COUNTS, is_count),
    **dict.fromkeys(_NUMBERS, is_number_or_null),
    **dict.fromkeys(_TEXTS, is_text),
}
"""One line of ``metrics.jsonl``."""


def well_typed(value: Any, types: Types) -> Record:
    """Return the entries of a record without those whose value `types` refuses.

    Parameters
    ----------
    value : object
        The parsed record; anything that is not a JSON object has no entries.
    types : mapping
        Maps the name of an entry to the function that checks its value.
    """
    if not isinstance(value, dict):
        return {}
    return {name: item for name, item in value.items() if name not in types or types[name](item)}


def metric_record(value: Any) -> Record | None:
    """Return a record of ``metrics.jsonl``; None if kind, step or time is missing or damaged."""
    record = well_typed(value, METRIC)
    return record if "kind" in record and "step" in record and "time" in record else None


def metric_head(value: Any) -> tuple[str, int] | None:
    """Return kind and step of what :func:`metric_record` takes for a record, without a look at its other entries."""
    if not isinstance(value, dict):
        return None
    kind, step = value.get("kind"), value.get("step")
    return (kind, step) if is_text(kind) and is_count(step) and is_moment(value.get("time")) else None


def parse_json(text: str) -> Any:
    """Parse JSON text; text of any depth and content gives a value or a ValueError.

    Raises
    ------
    ValueError
        The text is not JSON, or is nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:  # lone surrogates can be neither printed nor written
        return _whole_characters(value)
    return value


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(item) for name, item in value.items()}
    return value
