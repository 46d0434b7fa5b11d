"""Memory of this process, on the device it trains on."""

from __future__ import annotations

from pathlib import Path

import torch


def used_memory_gib(device: torch.device) -> float | None:
    """Return the peak memory [GiB] of this process: allocated on a GPU, resident on a CPU; None where unknown."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 4)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**20, 4)
    except OSError:  # no /proc on macOS
        pass
    return None
