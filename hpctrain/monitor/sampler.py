"""Read the sensors every few seconds in a thread, keep the sums, and set the pace of the run."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from hpctrain.metrics.events import Event, MemoryShort, OverCurrent, PaceChanged, PowerMode, SensorsFound
from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Change, Governor, Level
from hpctrain.monitor.sensors import Sensors

LONGEST_GAP_INTERVALS = 3.0
"""Longest gap between two samples, in intervals; beyond it, plus a second, the energy between them is unmeasured."""
LONGEST_WAIT_S = 5.0
"""Longest wait for a sample in progress when the run ends [s]; a hung sensor must not delay the exit of a rank."""
CLOSER_LOOK_S = 1.0
"""Longest interval between samples while the run is slowed down [s]."""
_POWER_MEAN_S = 30.0
"""Time constant of the mean that is compared with a power limit [s]."""

Note = Callable[[Event], None]


class Sampler:
    """Read the sensors, record their values, and judge them by the limits.

    Parameters
    ----------
    sensors : Sensors
    governor : Governor
    ledger : Ledger
    interval_s : float
        ``monitor.sample_interval_s`` [s].
    step : callable
        Returns the step that the run has reached.
    on_sample : callable
        Is called with the values of each sample.
    on_event : callable
        Is called with each event of :mod:`hpctrain.metrics.events.machine`.
    clock : callable
        Returns seconds and never goes back.

    Notes
    -----
    An error in a sample is printed once, and that sample is lost. Without readings the pace returns to full speed,
    level by level.
    """

    def __init__(
        self,
        sensors: Sensors,
        governor: Governor,
        ledger: Ledger,
        interval_s: float,
        step: Callable[[], int],
        on_sample: Callable[[dict[str, Any]], None] = lambda values: None,
        on_event: Note = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sensors, self._governor, self._ledger = sensors, governor, ledger
        self._interval_s, self._step, self._clock = interval_s, step, clock
        self._on_sample, self._on_event = on_sample, on_event
        self.meter = EnergyMeter(LONGEST_GAP_INTERVALS * interval_s + 1.0)
        self.rested_s = 0.0
        self.cause = ""
        self._first_s = self._last_s = math.nan
        self._mean_w: float | None = None
        self._mode: str | None = None
        self._absent: dict[str, str] | None = None
        self._failed = self._is_judged = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_ended, name="monitor", daemon=True)

    @property
    def level(self) -> Level:
        """Thermal state of the machine; the loop reads it between micro-batches."""
        return self._governor.level

    @property
    def duty(self) -> float:
        """Share of the time in which to compute."""
        return self._governor.duty

    @property
    def memory_is_short(self) -> bool:
        """Whether the node has little memory left."""
        return self._sensors.memory is not None and self._sensors.memory.is_short

    def __enter__(self) -> Sampler:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=LONGEST_WAIT_S)
        if not self._thread.is_alive():
            self.sample()

    def _sample_until_ended(self) -> None:
        while not self._ended.wait(self._wait_s()):
            self.sample()

    def _wait_s(self) -> float:
        return self._interval_s if self.level is Level.OK else min(self._interval_s, CLOSER_LOOK_S)

    def sample(self) -> None:
        """Read all sensors once, record the values, and set the pace."""
        self._is_judged = False
        try:
            self._sample()
        except Exception as error:  # an unexpected error of a sensor never ends a run
            if not self._is_judged:
                self._governor.update(self._clock(), [])
            if not self._failed:
                self._failed = True
                print(f"hpctrain: a sample of the sensors failed: {error!r}", file=sys.stderr, flush=True)

    def _sample(self) -> None:
        now_s = self._clock()
        if math.isnan(self._first_s):
            self._first_s = self._last_s = now_s
        values: dict[str, Any] = dict(self._sensors.read(now_s, self.meter))
        if self._ended.is_set() and threading.current_thread() is self._thread:
            return  # a sensor has hung until the end of the run, and its files are closed
        self._record_absent(values)
        self._watch_memory(values)
        self._watch_power_mode(values)
        alarms = self._sensors.alarms()
        for alarm in alarms:
            self._event(OverCurrent(what=alarm))
        readings = self._sensors.readings(values, self._mean_power_w(now_s, values))
        change = self._governor.update(now_s, readings, alarms)
        self._is_judged = True
        if change is not None:
            self._record(change)
        self._last_s = now_s
        values |= {"pace": self.level.word, "duty": round(self.duty, 3)}
        if self.meter.total_j is not None:
            values["energy_j"] = round(self.meter.total_j, 3)
        self._ledger.write(self._step(), values, self._sums(), self._wait_s())
        self._on_sample(values)

    def _sums(self) -> dict[str, Any]:
        total_j = self.meter.total_j
        return {
            "energy_j": None if total_j is None else round(total_j, 3),
            "by_source_j": {source: round(joules, 3) for source, joules in self.meter.joules.items()},
            "measured_s": round(self._last_s - self._first_s, 3),
            "unmeasured_s": round(self.meter.longest_unmeasured_s, 3),
            "rested_s": round(self.rested_s, 3),
        }

    def _mean_power_w(self, now_s: float, values: dict[str, Any]) -> float | None:
        """Return a running mean, because a run that pauses between micro-batches draws power in bursts."""
        watts = Sensors.power_w(values)
        if watts is None or self._mean_w is None:
            self._mean_w = watts
        else:
            self._mean_w += (watts - self._mean_w) * -math.expm1(-(now_s - self._last_s) / _POWER_MEAN_S)
        return self._mean_w

    def _record(self, change: Change) -> None:
        self.cause = change.reason
        self._event(PaceChanged(level=change.level.word, before=change.before.word, reason=change.reason))

    def _record_absent(self, values: dict[str, Any]) -> None:
        """Record which values are absent, once, and again when more values are absent."""
        absent = self._sensors.absent()
        if self._absent is None or absent.keys() - self._absent.keys():
            self._ledger.absent = self._absent = absent
            found = sorted(name for name in values if not name.startswith(("process_", "memory_")))
            self._event(SensorsFound(found=found, absent=absent))

    def _watch_memory(self, values: dict[str, Any]) -> None:
        if self._sensors.memory is not None and (reason := self._sensors.memory.judge(values)):
            self._event(MemoryShort(reason=reason))

    def _watch_power_mode(self, values: dict[str, Any]) -> None:
        mode = self._sensors.power_mode()
        if mode is not None:
            values["power_mode"] = mode
            if mode != self._mode:
                self._event(PowerMode(mode=mode, before=self._mode))
                self._mode = mode

    def _event(self, event: Event) -> None:
        if not isinstance(event, SensorsFound):
            self._ledger.note(event.at(self._step()).describe())
        self._on_event(event)
