"""What would fit into the memory of a device: options, each with an estimate (:mod:`hpctrain.profile.memory`)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from hpctrain.advice.summary import Option, RunSummary
from hpctrain.errors import HpctrainError
from hpctrain.metrics.events import Started
from hpctrain.profile.check import check_profile, memory_need
from hpctrain.profile.memory import COMFORTABLE, MemoryNeed


def with_options(run: RunSummary, path: str) -> RunSummary:
    """Return the summary with the options that need less memory, the one that costs least first.

    An option is estimated in a process that imports torch, some seconds each; the results are cached.

    Parameters
    ----------
    run : RunSummary
    path : str
        The profile of the run.
    """
    tried: list[dict[str, Any]] = [{}]
    if run.get("train.precision", "fp32") in ("fp32", "tf32"):
        tried.append({"train.precision": "bf16"})
    if not run.get("train.gradient_checkpointing", False):
        tried.append({"train.gradient_checkpointing": True})
    options, available = [], run.available_gib
    for changes in tried:
        need = _need(run, path, changes)
        if need is None:
            continue
        available = need.available_gib
        if changes:
            options.append(Option(changes, need.needed_gib(need.batch_size)))
        elif (smaller := _smaller(need)) is not None:
            options.append(smaller)
    return replace(run, options=options, available_gib=available)


def _need(run: RunSummary, path: str, changes: dict[str, Any]) -> MemoryNeed | None:
    with contextlib.suppress(HpctrainError):
        need = memory_need(check_profile(path, [f"{key}={str(value).lower()}" for key, value in changes.items()]))
        started = run.newest(Started)
        if need is not None and started is not None and started.device_memory_gib and need.platform.is_gpu:
            return replace(need, available_gib=started.device_memory_gib)
        return need
    return None


def _smaller(need: MemoryNeed) -> Option | None:
    """Return the largest smaller batch that fits and keeps the global batch."""
    shape = need.profile.update_shape
    sizes = [size for size in range(need.batch_size - 1, 0, -1) if need.batch_size % size == 0]
    for size in sizes:
        if need.needed_gib(size) <= COMFORTABLE * need.available_gib:
            keys = {f"train.{key}": value for key, value in shape.with_micro_batch(size).train_keys().items()}
            return Option(keys, need.needed_gib(size))
    return None
