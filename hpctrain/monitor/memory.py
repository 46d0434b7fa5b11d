"""Memory of this process, on the device it trains on."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_PEAK_KIB = re.compile(rb"VmHWM:\s*(\d+) kB")


def used_memory_gib(device: torch.device) -> float | None:
    """Return the peak memory [GiB] of this process: allocated on a GPU, resident on a CPU; None where unknown."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 4)
    try:
        found = _PEAK_KIB.search(Path("/proc/self/status").read_bytes())
    except OSError:  # no /proc on macOS
        return None
    return round(int(found[1]) / 2**20, 4) if found else None
