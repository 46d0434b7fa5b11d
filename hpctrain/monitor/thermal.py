"""Temperatures of a machine's thermal zones, and the trip points at which its firmware acts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hpctrain.monitor.sysfs import read_number, read_text

_POWERED_OFF_C = -256.0
"""A Jetson reports this temperature for a block that has no power."""
_PLAUSIBLE_C = (-100.0, 200.0)
_PLAUSIBLE_TRIP_C = (40.0, 150.0)
"""Firmware fills unused trip points with zeros and with values no chip would survive."""


@dataclass(frozen=True)
class Trips:
    """Temperatures at which the firmware acts [°C]; None where a zone has no such point.

    Parameters
    ----------
    passive : float or None
        The firmware lowers the clocks.
    hot : float or None
        The firmware sends user space its last warning.
    critical : float or None
        The firmware switches the machine off.
    """

    passive: float | None = None
    hot: float | None = None
    critical: float | None = None


@dataclass(frozen=True)
class Zone:
    """One thermal zone.

    Parameters
    ----------
    name : str
        Type of the zone in lower case without ``-thermal``: ``cpu``, ``gpu``, ``tj``.
    path : Path
        Folder of the zone.
    trips : Trips
    """

    name: str
    path: Path
    trips: Trips

    def temperature_c(self) -> float | None:
        """Return the temperature [°C]; None for a block that is switched off, which reads -256 °C, EIO or EAGAIN."""
        millidegrees = read_number(self.path / "temp")
        if millidegrees is None:
            return None
        celsius = millidegrees / 1000
        return celsius if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1] and celsius != _POWERED_OFF_C else None


def find_zones(root: Path = Path("/")) -> list[Zone]:
    """Return the thermal zones with their trip points, in the order of their numbers."""
    zones: list[Zone] = []
    for path in sorted((root / "sys/class/thermal").glob("thermal_zone[0-9]*"), key=_number_of):
        kind = read_text(path / "type")
        if not kind:
            continue
        name = re.sub(r"\W+", "_", re.sub(r"[-_]therm(al)?$", "", kind.lower()))
        same = sum(zone.name == name or zone.name.startswith(f"{name}_") for zone in zones)
        zones.append(Zone(f"{name}_{same}" if same else name, path, _trips(path)))
    return zones


def _number_of(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name))


def _trips(zone: Path) -> Trips:
    found: dict[str, float] = {}
    for path in zone.glob("trip_point_*_type"):
        kind = read_text(path)
        millidegrees = read_number(path.with_name(path.name.replace("_type", "_temp")))
        if kind in ("passive", "hot", "critical") and millidegrees is not None:
            celsius = millidegrees / 1000
            if _PLAUSIBLE_TRIP_C[0] < celsius < _PLAUSIBLE_TRIP_C[1]:
                found[kind] = min(celsius, found.get(kind, celsius))
    return Trips(**found)


def read_temperatures(zones: list[Zone]) -> dict[str, float]:
    """Return ``temperature_<zone>_c`` of each zone that reports one [°C]."""
    read = {f"temperature_{zone.name}_c": zone.temperature_c() for zone in zones}
    return {name: celsius for name, celsius in read.items() if celsius is not None}
