"""Memory of the node, and whether it runs short."""

from __future__ import annotations

import re
from pathlib import Path

from hpctrain.monitor.available import available_memory_bytes, available_memory_share
from hpctrain.monitor.sysfs import read_text

LEAST_AVAILABLE = 0.10
"""Available share of the memory, or of the job's limit, below which memory is short."""
MOST_PRESSURE_PERCENT = 10.0
"""Percentage of the last ten seconds in which some process waited for memory, above which memory is short."""
_RELAXED = 1.5
"""Memory is no longer short when this factor more is available, and the pressure is lower by this factor."""

_FIELD_KIB = re.compile(r"^(\w+):\s*(\d+) kB", re.MULTILINE)
_PRESSURE = re.compile(r"^some avg10=([\d.]+)", re.MULTILINE)


class HostMemory:
    """Read ``/proc/meminfo`` and the kernel's pressure stall information.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._share: float | None = None
        self.is_short = False

    def read(self) -> dict[str, float]:
        """Return total, available (never more than the job's limit) and swapped memory [GiB], and pressure [percent].

        On a Jetson this is the GPU's memory too. CUDA's own figure of free memory there does not include the page cache
        that the kernel would free.
        """
        kib = {name: int(value) for name, value in _FIELD_KIB.findall(read_text(self._root / "proc/meminfo") or "")}
        values = {}
        self._share = available_memory_share(self._root)
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
        """Return why memory is short when it becomes short; otherwise an empty text.

        Parameters
        ----------
        values : dict
            From :meth:`read`.
        """
        share = self._share
        pressure = values.get("memory_pressure_percent", 0.0)
        factor = _RELAXED if self.is_short else 1.0
        reasons = []
        if share is not None and share < LEAST_AVAILABLE * factor:
            gib = values.get("memory_available_gib", 0.0)
            reasons.append(f"{gib:.2f} GiB available, {100 * share:.0f} % of what the job may use")
        if pressure > MOST_PRESSURE_PERCENT / factor:
            reasons.append(f"some process waited for memory in {pressure:.0f} % of the last ten seconds")
        was_short, self.is_short = self.is_short, bool(reasons)
        return "; ".join(reasons) if self.is_short and not was_short else ""
