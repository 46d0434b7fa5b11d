"""The CPUs: their load in total and by this process, their clocks, and the energy of their packages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hpctrain.monitor.sysfs import read_number, read_text

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MachineLoad:
    """Load and clocks of all CPUs of the node.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat = root / "proc/stat"
        self._clocks = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._last = self._ticks()

    def read(self) -> dict[str, float]:
        """Return ``cpu_utilisation_percent`` since the last call and the mean ``cpu_clock_mhz``."""
        values = {}
        before, self._last = self._last, self._ticks()
        if before is not None and self._last is not None and self._last[1] > before[1]:
            share = (self._last[0] - before[0]) / (self._last[1] - before[1])
            values["cpu_utilisation_percent"] = 100 * max(0.0, min(1.0, share))
        kilohertz = [value for value in map(read_number, self._clocks) if value is not None]
        if kilohertz:
            values["cpu_clock_mhz"] = sum(kilohertz) / len(kilohertz) / 1000
        return values

    def _ticks(self) -> tuple[float, float] | None:
        """Return the busy ticks and all ticks since boot."""
        line = (read_text(self._stat) or "").partition("\n")[0].split()
        if len(line) < 6 or line[0] != "cpu":
            return None
        ticks = [float(value) for value in line[1:9]]  # guest time is in user time already
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


class ProcessLoad:
    """CPU time and resident memory of this process.

    Parameters
    ----------
    root : Path
        Where ``proc`` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / "proc/self"
        self._last: tuple[float, float] | None = None

    def read(self, now_s: float) -> dict[str, float]:
        """Return ``process_cpu_percent`` since the last call (100 is one core) and ``process_memory_gib``.

        Parameters
        ----------
        now_s : float
            Time on a clock that never goes back.
        """
        values = {}
        cpu_s = self._cpu_s()
        if cpu_s is not None:
            if self._last is not None and now_s > self._last[0]:
                values["process_cpu_percent"] = 100 * (cpu_s - self._last[1]) / (now_s - self._last[0])
            self._last = (now_s, cpu_s)
        pages = (read_text(self._folder / "statm") or "").split()
        if len(pages) > 1:
            values["process_memory_gib"] = int(pages[1]) * _PAGE_BYTES / 2**30
        return values

    def _cpu_s(self) -> float | None:
        # The name in parentheses may hold blanks and parentheses; only numbers follow the last parenthesis.
        fields = (read_text(self._folder / "stat") or "").rpartition(")")[2].split()
        return (float(fields[11]) + float(fields[12])) / _TICKS_PER_S if len(fields) > 12 else None


@dataclass(frozen=True)
class Package:
    """The energy counter of a CPU package.

    Parameters
    ----------
    name : str
        Name of the package, such as ``package_0``.
    counter : Path
        File of the counter in microjoules; it starts from 0 again after `wrap_j`.
    wrap_j : float or None
    """

    name: str
    counter: Path
    wrap_j: float | None

    def energy_j(self) -> float | None:
        """Return the counter [J]; None where it cannot be read."""
        microjoules = read_number(self.counter)
        return None if microjoules is None else microjoules / 1e6


def find_packages(root: Path = Path("/")) -> tuple[list[Package], str]:
    """Return the energy counters of the CPU packages (RAPL) that can be read, or why there is none.

    References
    ----------
    Kernel documentation, ``power/powercap``. Since CVE-2020-8694 only root can read the counters, unless the
    administrator allows others to.
    """
    packages, closed = [], False
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*")):
        name = read_text(folder / "name") or ""
        if not name.startswith("package"):  # parts of a package, or the platform that contains them
            continue
        microjoules = read_number(folder / "max_energy_range_uj")
        package = Package(
            name.replace("-", "_"), folder / "energy_uj", None if microjoules is None else microjoules / 1e6
        )
        if package.energy_j() is None:
            closed = True
        else:
            packages.append(package)
    if packages:
        return packages, ""
    return [], "RAPL is for root only here (energy_uj)" if closed else "no RAPL below /sys/class/powercap"
