"""From readings to a pace: ok, warm, hot, critical. The pace depends only on readings and a clock.

The pace sets the share of the time in which the run computes. It changes neither batches nor learning rate, so a run
that was slowed down ends with the same bytes as one that was not.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_DUTY = 0.1
"""Share of the time in which a run computes at the upper end of its warm range."""
_DUTY_AFTER_ALARM = 0.5
"""Share of the time in which a run computes after an over-current event, unless a reading asks for a slower pace."""


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
    """The values at which one quantity slows the run.

    Parameters
    ----------
    warm, hot, critical : float
        Values at which each level begins; infinite if it never begins.
    slowest : float
        Value at which a warm run computes for the least share of the time.
    hysteresis : float
        How far below its beginning a level ends.
    unit : str
    origin : str
        Source of the numbers, as text.
    """

    warm: float
    hot: float
    critical: float
    slowest: float
    hysteresis: float
    unit: str
    origin: str

    def level(self, value: float, margin: float = 0.0) -> Level:
        """Return the level of a value; with a margin, the level that the value still keeps."""
        starts = ((Level.CRITICAL, self.critical), (Level.HOT, self.hot), (Level.WARM, self.warm))
        return next((level for level, start in starts if value >= start - margin), Level.OK)

    def duty(self, value: float) -> float:
        """Return the share of the time in which to compute: 1 up to the warm limit, then falling linearly."""
        share = (value - self.warm) / (self.slowest - self.warm)
        return 1.0 - (1.0 - LEAST_DUTY) * min(1.0, max(0.0, share))


@dataclass(frozen=True)
class Reading:
    """A value and the limit it is compared with."""

    name: str
    value: float
    limit: Limit

    def describe(self) -> str:
        """Return the reading and its limit as text."""
        unit = self.limit.unit
        return f"{self.name} {self.value:.1f} {unit}; {self.limit.origin}"


@dataclass(frozen=True)
class Change:
    """A change of the pace.

    Parameters
    ----------
    before, level : Level
    reason : str
    """

    before: Level
    level: Level
    reason: str


class Governor:
    """Keep the level, with hysteresis and a shortest stay, so that the run does not alternate between two paces.

    The level rises at once, as far as a reading requires. It falls one level at a time, when every reading has left the
    level's hysteresis and the stay was long enough. A sensor without a value delays nothing.

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
        """Set the level from the newest readings.

        Parameters
        ----------
        now_s : float
            Time on a clock that never goes back.
        readings : sequence of Reading
            Readings of the sensors that can be read now.
        alarms : sequence of str
            Events since the last call that raise the level by one, such as over-current events.

        Returns
        -------
        Change or None
            None while the level stays the same.
        """
        before = self.level
        worst = max(readings, key=lambda reading: (reading.limit.level(reading.value), -_duty(reading)), default=None)
        wanted = worst.limit.level(worst.value) if worst else Level.OK
        held = max((r.limit.level(r.value, r.limit.hysteresis) for r in readings), default=Level.OK)
        reason = worst.describe() if worst else "no reading"
        if alarms:
            # Never up to CRITICAL: after an over-current event the hardware has lowered the clocks already.
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
