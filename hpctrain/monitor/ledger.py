"""What each rank has measured, in ``monitor/rank-0000.json``: the newest values, and the sums of every attempt.

Written anew with each sample, whole or not at all, so that an attempt that is killed keeps what it had measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from hpctrain.monitor.energy import J_PER_KWH
from hpctrain.rundir import RunDir, read_json

MOST_EVENTS = 50
"""Newest events kept of each rank."""
_MAXIMA = ("gpu_temperature_c", "gpu_memory_used_gib", "gpu_power_w", "board_power_w", "process_memory_gib")
_MEANS = ("gpu_utilisation_percent", "gpu_power_w", "board_power_w", "cpu_utilisation_percent")
_SHARES = ("gpu_throttled_by_heat", "gpu_throttled_by_power")


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
        kept = _dictionary(read_json(self._path, {}))
        self._earlier = {key: value for key, value in _dictionary(kept.get("attempts")).items() if key != str(attempt)}
        self._events: list[dict[str, Any]] = [event for event in kept.get("events") or [] if isinstance(event, dict)]
        self._tally: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.absent: dict[str, str] = {}

    def note(self, text: str, now: float | None = None) -> None:
        """Keep an event, in words; it is written with the next sample."""
        event = {"time": round(time.time() if now is None else now, 3), "attempt": self._fixed["attempt"], "text": text}
        self._events = [*self._events, event][-MOST_EVENTS:]

    def write(self, step: int, values: dict[str, Any], sums: dict[str, Any], interval_s: float) -> None:
        """Write the newest values and the sums of this attempt; a full disk must not end a run that is well.

        Parameters
        ----------
        step : int
        values : dict
            Names with units.
        sums : dict
            What adds up over an attempt, as :class:`AttemptSums` names it.
        interval_s : float
            To the next write [s].
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
        temporary = self._path.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(record) + "\n")
            os.replace(temporary, self._path)

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
    """What one rank has measured in one attempt.

    Parameters
    ----------
    rank, attempt : int
    host : str
    energy_j : float or None
        None where nothing could be measured.
    by_source_j : dict
        The same by source: ``gpu``, ``board``, ``cpu_package_0``.
    measured_s, unmeasured_s : float
        Time from the first sample to the last, and how much of it no energy is known of.
    rested_s : float
        Time the run has waited for the machine to cool down, or to draw less.
    statistics : dict
        ``mean_…`` and ``max_…`` of values.
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
        Of the newest sample, seconds since 1970.
    interval_s : float
        To the next one [s].
    values : dict
        Of the newest sample.
    absent : dict
        What the device does not tell, and why.
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
    """Return what the ranks of a run have written, by rank; a damaged file is passed over."""
    found = []
    for path in sorted(run.monitor.glob("rank-[0-9]*.json")):
        record = _dictionary(read_json(path, {}))
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            found.append(_rank_state(record))
    return found


def _rank_state(record: dict[str, Any]) -> RankState:
    rank, host = int(record["rank"]), str(record["host"])
    return RankState(
        rank=rank,
        attempt=int(record["attempt"]),
        step=int(record["step"]),
        host=host,
        time=float(record["time"]),
        interval_s=float(record["interval_s"]),
        values=_dictionary(record["values"]),
        absent=_dictionary(record["absent"]),
        attempts=[_sums(rank, int(key), host, sums) for key, sums in sorted(record["attempts"].items(), key=_number)],
        events=list(record["events"]),
    )


def _number(item: tuple[str, Any]) -> int:
    return int(item[0])


def _sums(rank: int, attempt: int, host: str, sums: dict[str, Any]) -> AttemptSums:
    statistics = {name: value for name, value in sums.items() if name.startswith(("mean_", "max_"))}
    return AttemptSums(
        rank,
        attempt,
        str(sums.get("host", host)),
        sums.get("energy_j"),
        dict(sums.get("by_source_j") or {}),
        float(sums.get("measured_s") or 0.0),
        float(sums.get("unmeasured_s") or 0.0),
        float(sums.get("rested_s") or 0.0),
        statistics,
    )


@dataclass(frozen=True)
class RunEnergy:
    """Energy of a whole run: all ranks, all attempts, those that were killed too.

    Parameters
    ----------
    joules : float or None
        None where no rank could measure any.
    by_source_j : dict
        ``gpu``, ``board``, ``cpu``.
    measured_s, unmeasured_s, rested_s : float
        Summed over attempts; of the rank that has most of it.
    """

    joules: float | None
    by_source_j: dict[str, float]
    measured_s: float
    unmeasured_s: float
    rested_s: float

    @property
    def kwh(self) -> float | None:
        return None if self.joules is None else self.joules / J_PER_KWH

    def per_spectrum_j(self, num_spectra: float) -> float | None:
        """Return the energy per spectrum seen [J]; updates that were lost and made again are in it."""
        return self.joules / num_spectra if self.joules is not None and num_spectra > 0 else None


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


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
