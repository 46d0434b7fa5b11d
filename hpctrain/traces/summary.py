"""Count what a Chrome trace of the PyTorch profiler says about the time of a step."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpctrain.traces.parts import COMPLETE, PARTS, PREFIX

MOST_KERNELS = 10
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of what a GPU does."""
LONGEST_NAME = 120
"""Kernels of templates have names of thousands of characters."""

Interval = tuple[float, float]


def summarise_trace(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a trace that has the labels of the trainer.

    Parameters
    ----------
    events : iterable of dict
        ``traceEvents`` of the file; times are in microseconds.

    Returns
    -------
    dict
        ``first_step``, ``last_step``; ``seconds``: time of all these steps, and ``parts``: what the host did in it, by
        the names of `PARTS` [s]. ``kernels``: the `MOST_KERNELS` that took longest, each with ``name``, ``seconds``
        (without what they called) and ``calls``; on a CPU operators. With a GPU also ``device``: ``busy_s``,
        ``idle_share``, ``nccl_s``, ``nccl_alone_s`` (nothing else was computed meanwhile), ``to_device_s``,
        ``other_copies_s``, and ``parts``: how long the kernels took that each part started [s].

    Raises
    ------
    ValueError
        The trace has no step.
    """
    timed = [event for event in events if event.get("ph") == "X" and "dur" in event]
    labels = [
        event for event in timed if event.get("cat") == "user_annotation" and str(event["name"]).startswith(PREFIX)
    ]
    steps = {int(name.split()[-1]): _interval(event) for event in labels if (name := _name(event)).startswith("step ")}
    if not steps:
        raise ValueError("the trace has no labels of steps")
    begin, end = min(low for low, _ in steps.values()), max(high for _, high in steps.values())
    parts = _parts(labels)
    summary: dict[str, Any] = {
        "first_step": min(steps),
        "last_step": max(steps),
        "seconds": _seconds(end - begin),
        "parts": _host_time(parts, list(steps.values()), begin, end),
    }
    device = [event for event in timed if event.get("cat") in ON_DEVICE]
    if device:
        summary["device"] = _device_time(device, _launches(timed), parts, begin, end)
        summary["kernels"] = _longest((event["name"], event["dur"]) for event in device if event["cat"] == "kernel")
    else:
        summary["kernels"] = _longest(_own_times(timed))
    return summary


def _name(event: Mapping[str, Any]) -> str:
    return str(event["name"])[len(PREFIX) :]


def _interval(event: Mapping[str, Any]) -> Interval:
    return float(event["ts"]), float(event["ts"]) + float(event["dur"])


def _seconds(microseconds: float) -> float:
    return round(microseconds / 1e6, 9)


def _parts(labels: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, str]]:
    """Return begin, end and name of each part, in order; a backward pass ends when its gradient is complete."""
    complete = sorted(_interval(event)[0] for event in labels if _name(event) == COMPLETE)
    found = []
    for event in labels:
        name, (begin, end) = _name(event), _interval(event)
        if name not in PARTS:
            continue
        inside = bisect.bisect_left(complete, begin)
        if name == "backward" and inside < len(complete) and complete[inside] < end:
            found += [(begin, complete[inside], name), (complete[inside], end, "exchange")]
        else:
            found.append((begin, end, name))
    return sorted(found)


def _host_time(
    parts: Sequence[tuple[float, float, str]], steps: Sequence[Interval], begin: float, end: float
) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for low, high, name in parts:
        sums[name] += high - low
    in_steps = sum(high - low for low, high in steps)
    sums["other"] = max(0.0, in_steps - sum(sums.values()))
    sums["between"] = max(0.0, end - begin - in_steps)
    return {name: _seconds(sums[name]) for name in PARTS if sums[name]}


def _launches(timed: Iterable[Mapping[str, Any]]) -> dict[Any, float]:
    """Return when the host started each kernel and copy, by their correlation."""
    found = {}
    for event in timed:
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {}):
            found[event["args"]["correlation"]] = float(event["ts"])
    return found


def _device_time(
    device: Sequence[Mapping[str, Any]],
    launches: Mapping[Any, float],
    parts: Sequence[tuple[float, float, str]],
    begin: float,
    end: float,
) -> dict[str, Any]:
    kinds: dict[str, list[Interval]] = defaultdict(list)
    by_part: Counter[str] = Counter()
    begins = [low for low, _, _ in parts]
    last = max(end, *(_interval(event)[1] for event in device))  # the GPU works on after the last command
    for event in device:
        low, high = _interval(event)
        kinds[_kind(event)].append((low, high))
        launched = launches.get(event.get("args", {}).get("correlation"))
        index = -1 if launched is None else bisect.bisect_right(begins, launched) - 1
        by_part[parts[index][2] if index >= 0 and launched <= parts[index][1] else "other"] += high - low
    busy = length(merged(interval for intervals in kinds.values() for interval in intervals))
    working = length(merged(interval for kind, found in kinds.items() if kind != "nccl" for interval in found))
    return {
        "busy_s": _seconds(busy),
        "idle_share": round(max(0.0, 1.0 - busy / (last - begin)), 4),
        "nccl_s": _seconds(length(merged(kinds["nccl"]))),
        "nccl_alone_s": _seconds(busy - working),
        "to_device_s": _seconds(length(merged(kinds["to_device"]))),
        "other_copies_s": _seconds(length(merged(kinds["copy"]))),
        "parts": {name: _seconds(by_part[name]) for name in PARTS if by_part[name]},
    }


def _kind(event: Mapping[str, Any]) -> str:
    if event["cat"] == "kernel":
        return "nccl" if str(event["name"]).startswith("nccl") else "compute"
    if event["cat"] == "gpu_memcpy":
        return "to_device" if "HtoD" in str(event["name"]) else "copy"
    return "compute"


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals as intervals that do not touch, in order."""
    found: list[Interval] = []
    for low, high in sorted(intervals):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def length(intervals: Iterable[Interval]) -> float:
    """Return the summed length of intervals that do not overlap."""
    return sum(high - low for low, high in intervals)


def _own_times(timed: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return the name of each operator of the CPU, and the time that it took without the operators it called."""
    found: list[tuple[str, float]] = []
    operators = [event for event in timed if event.get("cat") == "cpu_op"]
    open_until: list[tuple[Any, float, int]] = []  # thread, end, index in `found`
    for event in sorted(operators, key=lambda each: (str(each.get("tid")), each["ts"], -each["dur"])):
        (begin, end), thread = _interval(event), event.get("tid")
        while open_until and (open_until[-1][0] != thread or open_until[-1][1] <= begin):
            open_until.pop()
        if open_until:
            name, own = found[open_until[-1][2]]
            found[open_until[-1][2]] = name, own - (end - begin)
        open_until.append((thread, end, len(found)))
        found.append((str(event["name"]), end - begin))
    return found


def _longest(times: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    sums: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for name, duration in times:
        sums[name] += duration
        calls[name] += 1
    return [
        {"name": name[:LONGEST_NAME], "seconds": _seconds(duration), "calls": calls[name]}
        for name, duration in sums.most_common(MOST_KERNELS)
    ]
