"""Memory of the node, and whether the kernel is at pains to find some."""

from __future__ import annotations

import re
from pathlib import Path

from hpctrain.monitor.available import available_memory_bytes
from hpctrain.monitor.sysfs import read_text

LEAST_AVAILABLE = 0.10
"""Share of the memory below which it is short."""
MOST_PRESSURE_PERCENT = 10.0
"""Share of ten seconds that some process has waited for memory, above which it is short."""
_RELAXED = 1.5
"""It is no longer short when there is so many times more available, or less pressure."""

_FIELD_KIB = re.compile(r"^(\w+):\s*(\d+) kB", re.MULTILINE)
_PRESSURE = re.compile(r"^some avg10=([\d.]+)", re.MULTILINE)


class HostMemory:
    """What ``/proc/meminfo`` and the kernel's pressure stall information say.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.is_short = False

    def read(self) -> dict[str, float]:
        """Return total, available (never more than the job's limit) and swapped memory [GiB], and pressure [percent].

        On a Jetson this is the GPU's memory too. CUDA's own figure of free memory there leaves out what the kernel
        would give back from its page cache.
        """
        kib = {name: int(value) for name, value in _FIELD_KIB.findall(read_text(self._root / "proc/meminfo") or "")}
        values = {}
        available = available_memory_bytes(self._root)
        if "MemTotal" in kib:
            values["memory_total_gib"] = kib["MemTotal"] / 2**20
        if available is not None:
            values["memory_available_gib"] = available / 2**30
        if "SwapTotal" in kib and "SwapFree" in kib:
            values["swap_used_gib"] = (kib["SwapTotal"] - kib["SwapFree"]) / 2**20
        pressure = _PRESSURE.search(read_text(self._root / "proc/pressure/memory") or "")
        if pressure:
            values["memory_pressure_percent"] = float(pressure[1])
        return values

    def judge(self, values: dict[str, float]) -> str:
        """Return why memory is short, once when it becomes so; else an empty text.

        Parameters
        ----------
        values : dict
            From :meth:`read`.
        """
        total, available = values.get("memory_total_gib"), values.get("memory_available_gib")
        share = available / total if total and available is not None else 1.0
        pressure = values.get("memory_pressure_percent", 0.0)
        factor = _RELAXED if self.is_short else 1.0
        reasons = []
        if share < LEAST_AVAILABLE * factor:
            reasons.append(f"{available:.2f} of {total:.1f} GiB available")
        if pressure > MOST_PRESSURE_PERCENT / factor:
            reasons.append(f"some process waited for memory in {pressure:.0f} % of the last ten seconds")
        was_short, self.is_short = self.is_short, bool(reasons)
        return "; ".join(reasons) if self.is_short and not was_short else ""
