"""Power of a Jetson's supply rails, from its INA3221 monitors through the kernel's hwmon interface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hpctrain.monitor.sysfs import read_number, read_text

_CHANNELS = (1, 2, 3)
"""Channels of each monitor. Higher numbers are shunt voltages, and 7 is their sum, which is no rail."""
_NOT_CONNECTED = "NC"

TOTALS = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
"""Rails whose sum is the power of the module, by board. Orin NX and Nano measure it at the input; on AGX Orin it is the
sum of three. VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO, which would count twice. The carrier board is not included."""


@dataclass(frozen=True)
class Rail:
    """One channel of a monitor.

    Parameters
    ----------
    label : str
        Name in the device tree, such as ``VDD_GPU_SOC``.
    voltage, current, alarm : Path
        Files that hold the voltage [mV], the current [mA], and 1 while the current is above its critical limit.
    """

    label: str
    voltage: Path
    current: Path
    alarm: Path

    def power_w(self) -> float | None:
        """Return voltage times current [W]; None where either cannot be read."""
        millivolts, milliamperes = read_number(self.voltage), read_number(self.current)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """Return the connected rails of all monitors; their hwmon numbers change with each boot."""
    rails = []
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("[0-9]*-*/hwmon/hwmon*")):
        for channel in _CHANNELS:
            label = read_text(folder / f"in{channel}_label")
            if label and label != _NOT_CONNECTED:
                files = (f"in{channel}_input", f"curr{channel}_input", f"curr{channel}_crit_alarm")
                rails.append(Rail(label, *(folder / name for name in files)))
    return rails


class PowerRails:
    """The supply rails of this machine.

    Parameters
    ----------
    root : Path
        Where ``sys`` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.rails = find_rails(root)
        labels = {rail.label for rail in self.rails}
        self._of_total = next((names for names in TOTALS if labels.issuperset(names)), ())
        self.absent: dict[str, str] = {}
        if not self.rails:
            self.absent["board_power_w"] = "no INA3221 below /sys/bus/i2c/drivers"
        elif not self._of_total:
            self.absent["board_power_w"] = f"no total of the module from its rails: {', '.join(sorted(labels))}"

    def read(self) -> dict[str, float]:
        """Return the power of each rail and of the module [W]; without a total if one of its rails cannot be read."""
        power_w = {rail.label: rail.power_w() for rail in self.rails}
        values = {f"rail_{_name(label)}_w": watts for label, watts in power_w.items() if watts is not None}
        parts = [power_w[label] for label in self._of_total]
        if parts and None not in parts:
            values["board_power_w"] = sum(parts)
        return values

    def alarms(self) -> list[str]:
        """Return the labels of rails whose current is above its critical limit."""
        return [rail.label for rail in self.rails if read_number(rail.alarm)]


def _name(label: str) -> str:
    return re.sub(r"\W+", "_", label).lower()
