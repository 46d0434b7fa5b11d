"""Measurements of each rank, in ``monitor/rank-0000.json``: the newest values, and the sums of every attempt.

Each sample replaces the file, whole or not at all, so that an attempt that is killed keeps its measurements.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from hpctrain.files import clear_old_leftovers
from hpctrain.monitor.energy import J_PER_KWH
from hpctrain.records import (
    Record,
    is_count,
    is_interval,
    is_list,
    is_moment,
    is_number,
    is_number_or_null,
    is_record,
    is_text,
    is_texts_by_name,
    well_typed,
)
from hpctrain.rundir import RunDir, read_json, write_atomic

MOST_EVENTS = 50
"""Number of events that are kept for each rank, the newest ones."""
_MAXIMA = ("gpu_temperature_c", "gpu_memory_used_gib", "gpu_power_w", "board_power_w", "process_memory_gib")
_MEANS = ("gpu_utilisation_percent", "gpu_power_w", "board_power_w", "cpu_utilisation_percent")
_SHARES = ("gpu_throttled_by_heat", "gpu_throttled_by_power")
_WORDS = ("pace", "power_mode")
_FILE = {
    "rank": is_count,
    "host": is_text,
    "attempt": is_count,
    "time": is_moment,
    "step": is_count,
    "interval_s": is_interval,
    "values": is_record,
    "absent": is_texts_by_name,
    "attempts": is_record,
    "events": is_list,
}
_EVENT = {"time": is_moment, "attempt": is_count, "text": is_text}
_SUMS = {
    "host": is_text,
    "energy_j": is_number_or_null,
    "by_source_j": is_record,
    "measured_s": is_number,
    "unmeasured_s": is_number,
    "rested_s": is_number,
}


class Ledger:
    """The file of one rank.

    Parameters
    ----------
    run : RunDir
    rank : int
    attempt : int
    host : str
    """

    def __init__(self, run: RunDir, rank: int, attempt: int, host: str) -> None:
        self._path = run.monitor_file(rank)
        self._fixed = {"rank": rank, "host": host, "attempt": attempt}
        if rank == 0:
            clear_old_leftovers(self._path.parent)
        kept = well_typed(read_json(self._path), _FILE)
        self._earlier = {key: value for key, value in _by_attempt(kept).items() if key != str(attempt)}
        self._events = _events(kept)[-MOST_EVENTS:]
        self._tally: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.absent: dict[str, str] = {}

    def note(self, text: str, now: float | None = None) -> None:
        """Keep an event as text; it is written with the next sample."""
        event = {"time": round(time.time() if now is None else now, 3), "attempt": self._fixed["attempt"], "text": text}
        self._events = [*self._events, event][-MOST_EVENTS:]

    def write(self, step: int, values: dict[str, Any], sums: dict[str, Any], interval_s: float) -> None:
        """Write the newest values and the sums of this attempt; a full disk must not end a healthy run.

        Parameters
        ----------
        step : int
        values : dict
            Values by name; the names have units.
        sums : dict
            Sums over the attempt, with the names of :class:`AttemptSums`.
        interval_s : float
            Time to the next write [s].
        """
        self._count(values)
        record = {
            **self._fixed,
            "time": round(time.time(), 3),
            "step": step,
            "interval_s": interval_s,
            "values": values,
            "absent": self.absent,
            "attempts": {**self._earlier, str(self._fixed["attempt"]): {**sums, **self._statistics()}},
            "events": self._events,
        }
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            write_atomic(self._path, json.dumps(record) + "\n", durable=False, replace_folders=True)

    def _count(self, values: dict[str, Any]) -> None:
        for name in {*_MEANS, *_SHARES} & values.keys():
            self._tally[f"mean_{name}"] = self._tally.get(f"mean_{name}", 0.0) + values[name]
            self._counts[f"mean_{name}"] = self._counts.get(f"mean_{name}", 0) + 1
        for name in _MAXIMA:
            if name in values:
                self._tally[f"max_{name}"] = max(values[name], self._tally.get(f"max_{name}", values[name]))

    def _statistics(self) -> dict[str, float]:
        return {name: round(value / self._counts.get(name, 1), 4) for name, value in self._tally.items()}


@dataclass(frozen=True)
class AttemptSums:
    """Sums over one attempt of one rank.

    Parameters
    ----------
    rank, attempt : int
    host : str
    energy_j : float or None
        None where nothing could be measured.
    by_source_j : dict
        Energy by source: ``gpu``, ``board``, ``cpu_package_0``.
    measured_s, unmeasured_s : float
        Time from the first sample to the last, and the part of it without energy readings.
    rested_s : float
        Time the run was paused to let the machine cool down or draw less power.
    statistics : dict
        Mean and maximum of values, with names that begin with ``mean_`` and ``max_``.
    """

    rank: int
    attempt: int
    host: str
    energy_j: float | None
    by_source_j: dict[str, float]
    measured_s: float
    unmeasured_s: float
    rested_s: float
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RankState:
    """The file of one rank, read.

    Parameters
    ----------
    rank, attempt, step : int
    host : str
    time : float
        Time of the newest sample [s since 1970].
    interval_s : float
        Time to the next sample [s].
    values : dict
        Values of the newest sample.
    absent : dict
        Sensors that this machine does not report, and why.
    attempts : list of AttemptSums
    events : list of dict
        ``time``, ``attempt`` and ``text``, oldest first.
    """

    rank: int
    attempt: int
    step: int
    host: str
    time: float
    interval_s: float
    values: dict[str, Any]
    absent: dict[str, str]
    attempts: list[AttemptSums]
    events: list[dict[str, Any]]


def read_ledgers(run: RunDir) -> list[RankState]:
    """Return the records of the ranks of a run, by rank; a file without rank, attempt or time is skipped."""
    records = [well_typed(read_json(path), _FILE) for path in run.monitor_files()]
    return [_rank_state(record) for record in records if record.keys() >= {"rank", "attempt", "time"}]


def _rank_state(record: Record) -> RankState:
    rank, host = record["rank"], record.get("host", "")
    by_attempt = {int(key): sums for key, sums in _by_attempt(record).items()}
    return RankState(
        rank=rank,
        attempt=record["attempt"],
        step=record.get("step", 0),
        host=host,
        time=record["time"],
        interval_s=record.get("interval_s", 0.0),
        values=_values(record.get("values", {})),
        absent=record.get("absent", {}),
        attempts=[_sums(rank, number, host, by_attempt[number]) for number in sorted(by_attempt)],
        events=[event for event in _events(record) if event.keys() >= _EVENT.keys()],
    )


def _values(values: Record) -> Record:
    """Return the readings of sensors; they are numbers, except those that are text by nature."""
    return {name: value for name, value in values.items() if (is_text if name in _WORDS else is_number)(value)}


def _by_attempt(record: Record) -> dict[str, Record]:
    attempts = record.get("attempts", {})
    return {key: sums for key, sums in attempts.items() if key.isdecimal() and len(key) < 10 and isinstance(sums, dict)}


def _events(record: Record) -> list[Record]:
    return [well_typed(event, _EVENT) for event in record.get("events", []) if isinstance(event, dict)]


def _sums(rank: int, attempt: int, host: str, record: Record) -> AttemptSums:
    sums = well_typed(record, _SUMS)
    return AttemptSums(
        rank,
        attempt,
        sums.get("host", host),
        sums.get("energy_j"),
        {name: joules for name, joules in sums.get("by_source_j", {}).items() if is_number(joules)},
        float(sums.get("measured_s", 0.0)),
        float(sums.get("unmeasured_s", 0.0)),
        float(sums.get("rested_s", 0.0)),
        {name: v for name, v in sums.items() if name.startswith(("mean_", "max_")) and is_number(v)},
    )


@dataclass(frozen=True)
class RunEnergy:
    """Energy of a whole run: all ranks and all attempts, including those that were killed.

    Parameters
    ----------
    joules : float or None
        None where no rank could measure energy.
    by_source_j : dict
        ``gpu``, ``board``, ``cpu``.
    measured_s, unmeasured_s, rested_s : float
        Times summed over the attempts of a rank; the largest of any rank [s].
    """

    joules: float | None
    by_source_j: dict[str, float]
    measured_s: float
    unmeasured_s: float
    rested_s: float

    @property
    def kwh(self) -> float | None:
        return None if self.joules is None else self.joules / J_PER_KWH

    def per_sample_j(self, num_samples: float) -> float | None:
        """Return the energy per sample seen [J]; it includes steps that were lost and repeated."""
        return self.joules / num_samples if self.joules is not None and num_samples > 0 else None


def sum_up(states: list[RankState]) -> RunEnergy:
    """Add up the energy of a run from the files of its ranks."""
    every = [sums for state in states for sums in state.attempts]
    measured = [sums.energy_j for sums in every if sums.energy_j is not None]
    by_source: dict[str, float] = {}
    for sums in every:
        for source, joules in sums.by_source_j.items():
            name = source.partition("_")[0]
            by_source[name] = by_source.get(name, 0.0) + joules

    def most(name: str) -> float:
        return max((sum(getattr(sums, name) for sums in state.attempts) for state in states), default=0.0)

    return RunEnergy(
        sum(measured) if measured else None, by_source, most("measured_s"), most("unmeasured_s"), most("rested_s")
    )
