"""A summary of a trace in words, and the summaries that a run has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctrain.records import is_count, is_list, is_number, is_record, is_text, well_typed
from hpctrain.rundir import RunDir, read_json
from hpctrain.traces.parts import PARTS

HOW_TO_OPEN = "open it in https://ui.perfetto.dev (nothing is uploaded) or in chrome://tracing"
_SUMMARY = {
    "first_step": is_count,
    "last_step": is_count,
    "rank": is_count,
    "device": is_record,
    "device_name": is_text,
    "seconds": is_number,
    "parts": is_record,
    "kernels": is_list,
    "trace": is_text,
}


def read_summaries(run: RunDir) -> list[dict[str, Any]]:
    """Return the summaries of a run's traces, by rank; what is damaged is left out."""
    found = [well_typed(read_json(path), _SUMMARY) for path in sorted(run.traces.glob("rank-*.summary.json"))]
    return [each for each in found if each.get("seconds", 0) > 0 and {"first_step", "last_step", "parts"} <= set(each)]


def in_words(summary: Mapping[str, Any]) -> list[str]:
    """Return what a trace says about the time of a step: sentences without the table of kernels."""
    steps = summary["last_step"] - summary["first_step"] + 1
    span = f"steps {summary['first_step']} to {summary['last_step']}" if steps > 1 else f"step {summary['last_step']}"
    where = f" on rank {summary['rank']}" if "rank" in summary else ""
    device = summary.get("device_name", "")
    lines = [f"{span}{where}{f' ({device})' if device else ''}: {_ms(summary['seconds'] / steps)} a step"]
    parts = [
        (seconds, PARTS[name])
        for name, seconds in summary["parts"].items()
        if name in PARTS and is_number(seconds) and seconds > 0
    ]
    shares = [f"{text} {_percent(seconds / summary['seconds'])}" for seconds, text in sorted(parts, reverse=True)]
    lines.append(f"time of the host: {', '.join(shares)}")
    return [*lines, *_of_device(summary)]


def _of_device(summary: Mapping[str, Any]) -> list[str]:
    device = summary.get("device") or {}
    numbers = {name: value for name, value in device.items() if is_number(value)}
    if not {"idle_share", "busy_s"} <= set(numbers):
        return []
    lines = [f"the GPU computed or copied {_percent(1 - numbers['idle_share'])} of the time, and was idle the rest"]
    started = [
        f"{PARTS[name]} {_percent(seconds / max(numbers['busy_s'], 1e-12))}"
        for name, seconds in (device.get("parts") or {}).items()
        if name in PARTS and is_number(seconds)
    ]
    if started:
        lines.append(f"what started its work: {', '.join(started)}")
    exchanged, alone = numbers.get("nccl_s", 0.0), numbers.get("nccl_alone_s", 0.0)
    if exchanged:
        lines.append(
            f"exchange of gradients (NCCL): {_percent(exchanged / summary['seconds'])} of the time, of which "
            f"{_percent(alone / exchanged)} while nothing else was computed"
        )
    copied = numbers.get("to_device_s", 0.0)
    lines.append(f"copies from the host to the GPU: {_percent(copied / summary['seconds'])} of the time")
    return lines


def kernel_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return share of the time, calls per step and name of the kernels, or operators, that took longest."""
    steps = summary["last_step"] - summary["first_step"] + 1
    return [
        (_percent(each["seconds"] / summary["seconds"]), f"{each['calls'] / steps:.3g}", str(each["name"]))
        for each in summary.get("kernels") or []
        if isinstance(each, dict) and is_number(each.get("seconds")) and is_number(each.get("calls")) and "name" in each
    ]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
