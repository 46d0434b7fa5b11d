"""From readings to a pace: ok, warm, hot, critical; a function of readings and a clock, and of nothing else.

The pace only says how much of the time the run computes. It touches neither batches nor learning rate, so a run that
was slowed down ends with the bytes of one that was not.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_DUTY = 0.1
"""Share of the time that a run still computes at the upper end of its warm range."""
_DUTY_AFTER_ALARM = 0.5
"""What an over-current event costs while no reading asks for more."""


class Level(enum.IntEnum):
    """Thermal state of the machine.

    WARM computes for a share of the time, HOT pauses until it is cooler, CRITICAL saves and exits.
    """

    OK = 0
    WARM = 1
    HOT = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Limit:
    """Where one quantity slows the run.

    Parameters
    ----------
    warm, hot, critical : float
        Values at which each level begins; infinite where it never does.
    slowest : float
        Value at which a warm run computes for the least share of the time.
    hysteresis : float
        How far below its beginning a level ends.
    unit : str
    origin : str
        Where the numbers come from, in words.
    """

    warm: float
    hot: float
    critical: float
    slowest: float
    hysteresis: float
    unit: str
    origin: str

    def level(self, value: float, margin: float = 0.0) -> Level:
        """Return the level that a value asks for; with a margin, the one that it still holds."""
        starts = ((Level.CRITICAL, self.critical), (Level.HOT, self.hot), (Level.WARM, self.warm))
        return next((level for level, start in starts if value >= start - margin), Level.OK)

    def duty(self, value: float) -> float:
        """Return the share of the time to compute in: 1 up to the warm limit, then falling in a line."""
        share = (value - self.warm) / (self.slowest - self.warm)
        return 1.0 - (1.0 - LEAST_DUTY) * min(1.0, max(0.0, share))


@dataclass(frozen=True)
class Reading:
    """A value, and the limit it is held against."""

    name: str
    value: float
    limit: Limit

    def describe(self) -> str:
        """Return the reading and its limit in words."""
        unit = self.limit.unit
        return f"{self.name} {self.value:.1f} {unit}; {self.limit.origin}"


@dataclass(frozen=True)
class Change:
    """The pace has changed.

    Parameters
    ----------
    before, level : Level
    reason : str
    """

    before: Level
    level: Level
    reason: str


class Governor:
    """Keep the level, with hysteresis and a shortest stay, so that the run does not flutter between two paces.

    It rises at once, as far as a reading asks for. It falls one level at a time, when every reading has left the
    level's hysteresis and the stay was long enough. A silent sensor delays nothing.

    Parameters
    ----------
    dwell_s : float
        Shortest stay in a level before the next lower one [s].
    """

    def __init__(self, dwell_s: float) -> None:
        self._dwell_s = dwell_s
        self._since_s = -math.inf
        self.level = Level.OK
        self.duty = 1.0

    def update(self, now_s: float, readings: Sequence[Reading], alarms: Sequence[str] = ()) -> Change | None:
        """Take the newest readings.

        Parameters
        ----------
        now_s : float
            Of a clock that never goes back.
        readings : sequence of Reading
            Those that can be read now.
        alarms : sequence of str
            What has happened since the last call that asks for one level more, such as over-current events.

        Returns
        -------
        Change or None
            None while the level stays.
        """
        before = self.level
        worst = max(readings, key=lambda reading: (reading.limit.level(reading.value), -_duty(reading)), default=None)
        wanted = worst.limit.level(worst.value) if worst else Level.OK
        held = max((r.limit.level(r.value, r.limit.hysteresis) for r in readings), default=Level.OK)
        reason = worst.describe() if worst else "no reading"
        if alarms:
            # Never up to CRITICAL: a supply that is asked too much has acted for itself already.
            raised = max(before, min(Level.HOT, Level(min(before + 1, Level.CRITICAL))))
            if raised >= wanted:
                wanted, reason = raised, "; ".join(alarms)
            self._since_s = now_s
        if wanted > before:
            self.level, self._since_s = wanted, now_s
        elif held < before and now_s - self._since_s >= self._dwell_s:
            self.level, self._since_s = Level(before - 1), now_s
        self.duty = self._duty(readings)
        return Change(before, self.level, reason) if self.level != before else None

    def _duty(self, readings: Sequence[Reading]) -> float:
        if self.level is Level.OK:
            return 1.0
        if self.level > Level.WARM:
            return LEAST_DUTY
        asked = min(map(_duty, readings), default=1.0)
        held = any(r.limit.level(r.value, r.limit.hysteresis) >= Level.WARM for r in readings)
        return asked if held else min(asked, _DUTY_AFTER_ALARM)


def _duty(reading: Reading) -> float:
    return reading.limit.duty(reading.value)
