"""Over-current events of a Jetson: the board drew more than its supply gives, and the hardware lowered the clocks."""

from __future__ import annotations

from pathlib import Path

from hpctrain.monitor.rails import PowerRails
from hpctrain.monitor.sysfs import read_number

_MEANING = {"oc1": "under-voltage", "oc2": "average current", "oc3": "instantaneous current"}


class OverCurrent:
    """Counters of over-current events, and alarms of rails.

    Parameters
    ----------
    root : Path
        Where ``sys`` is.
    rails : PowerRails
    """

    def __init__(self, root: Path, rails: PowerRails) -> None:
        self._rails = rails
        folder = root / "sys/devices/platform/soctherm-oc-event/hwmon"
        self._counters = {path.name.split("_")[0]: path for path in sorted(folder.glob("hwmon*/oc[0-9]_event_cnt"))}
        self._last = {name: read_number(path) for name, path in self._counters.items()}  # counters start at boot
        self._in_alarm: set[str] = set()

    def new_events(self) -> list[str]:
        """Return the events since the last call as text; a lasting alarm of a rail is reported once."""
        events = []
        for name, path in self._counters.items():
            count, before = read_number(path), self._last[name]
            if count is not None:
                if before is not None and count > before:
                    events.append(
                        f"{count - before:.0f} over-current events of {name} ({_MEANING.get(name, 'throttle')})"
                    )
                self._last[name] = count
        alarms = set(self._rails.alarms())
        events += [f"current of {label} above its critical limit" for label in sorted(alarms - self._in_alarm)]
        self._in_alarm = alarms
        return events
