"""A Jetson's GPU, clocks and power mode from sysfs: NVML reports none of them on Orin."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from hpctrain.monitor.sysfs import read_number, read_text

_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_QUERY_TIMEOUT_S = 5.0


def is_jetson(root: Path = Path("/")) -> bool:
    """Return whether this is a Tegra board; its trip points are reliable, those of a laptop's firmware are not."""
    if (root / "etc/nv_tegra_release").exists():
        return True
    return "nvidia,tegra" in (read_text(root / "proc/device-tree/compatible") or "")


def board_name(root: Path = Path("/")) -> str | None:
    """Return the name of this board in the device tree, such as ``NVIDIA Jetson AGX Orin Developer Kit``."""
    text = read_text(root / "proc/device-tree/model")
    return text.rstrip("\0") if text else None


class JetsonGpu:
    """The integrated GPU, read through devfreq.

    Parameters
    ----------
    root : Path
        Where ``sys`` is.

    References
    ----------
    Kernel documentation, ``Documentation/ABI/testing/sysfs-class-devfreq``; the load comes from a file of Tegra alone.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        folder = root / "sys/class/devfreq"
        found = [path for end in ("*.gpu", "*.ga10b", "*.gv11b", "*.gp10b") for path in sorted(folder.glob(end))]
        self._folder = found[0] if found else None
        self.absent = {} if found else dict.fromkeys(("gpu_utilisation_percent", "gpu_clock_mhz"), "no GPU in devfreq")

    def read(self) -> dict[str, float]:
        """Return ``gpu_utilisation_percent``, ``gpu_clock_mhz`` and ``gpu_clock_limit_mhz``."""
        if self._folder is None:
            return {}
        per_mille = read_number(self._folder / "device/load")
        hertz = read_number(self._folder / "cur_freq")
        limit_hertz = read_number(self._folder / "max_freq")
        read = {
            "gpu_utilisation_percent": None if per_mille is None else per_mille / 10,
            "gpu_clock_mhz": None if hertz is None else hertz / 1e6,
            "gpu_clock_limit_mhz": None if limit_hertz is None else limit_hertz / 1e6,
        }
        return {name: value for name, value in read.items() if value is not None}


class PowerMode:
    """The power mode that nvpmodel has set.

    Parameters
    ----------
    root : Path
        Where ``var`` and ``etc`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._status = root / "var/lib/nvpmodel/status"
        text = read_text(root / "etc/nvpmodel.conf") or ""
        self._names = {int(number): name for number, name in _MODE.findall(text)}
        # The command takes a while and may need root, so it runs once, and never for the sensors of another machine.
        self._asked = None if self._status.exists() or root != Path("/") else _ask_nvpmodel()

    def read(self) -> str | None:
        """Return the name of the mode, such as ``MAXN`` or ``30W``, or its number without a name; None if unknown."""
        text = read_text(self._status)
        if text is None:
            return self._asked
        match = re.search(r"pmode:(\d+)", text)
        if not match:
            return None
        number = int(match[1])
        return self._names.get(number, str(number))


def _ask_nvpmodel() -> str | None:
    if shutil.which("nvpmodel") is None:
        return None
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"NV Power Mode:\s*(\S+)", done.stdout)
    return match[1].removeprefix("MODE_") if match else None
