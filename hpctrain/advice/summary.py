"""The summary of a run that all rules look at, and the numbers that several of them need."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from hpctrain.metrics.events import CheckpointSaved, Event, FirstStep, Resumed, Started
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import History
from hpctrain.monitor.ledger import RankState
from hpctrain.records import Record, is_number

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class EndedAttempt:
    """One line of ``attempts/ended.tsv``: when an attempt ended [s since 1970], how, and what followed."""

    time_s: float
    exit_code: int
    followed: str


@dataclass(frozen=True)
class Option:
    """Changes of the profile, and the memory that a device would need with them [GiB]."""

    changes: Mapping[str, Any]
    needed_gib: float


@dataclass(frozen=True)
class PeerWaits:
    """For whom the ranks of the newest attempt waited.

    Parameters
    ----------
    seconds : float
        Time of the steps in which this was measured [s].
    lost_s : mapping
        How long the other ranks waited for a rank while it was the slowest one, their mean [s].
    data_s : mapping
        How long a rank waited for its batches while it was the slowest one [s].
    """

    seconds: float
    lost_s: Mapping[int, float]
    data_s: Mapping[int, float]


@dataclass(frozen=True)
class RunSummary:
    """What the records of a run say.

    Parameters
    ----------
    path : str
        The run directory.
    profile : mapping
        The plain values of ``profile.yaml``; empty if it cannot be read.
    history : History
        Records of ``metrics.jsonl``.
    objective : Objective
        The number that decides which evaluation is the best one.
    ranks : list of RankState
        Measurements of the sensors of each rank.
    leases : list of dict
        Contents of ``attempts/*.json``, oldest first.
    ended : list of EndedAttempt
    strikes : mapping
        Number of failures by node, from ``attempts/bad-nodes.tsv``.
    log : str
        The last lines of the newest logs.
    submitted_s : float or None
        When the run was submitted [s since 1970].
    trace : mapping
        Summary of the steps that the profiler recorded; empty if it recorded none.
    available_gib : float or None
        Memory that a device has, where `options` were estimated.
    options : list of Option
        Changes with which the run needs less memory, estimated; empty unless somebody asked for the estimate.
    """

    path: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    objective: Objective = field(default_factory=Objective)
    ranks: Sequence[RankState] = ()
    leases: Sequence[Record] = ()
    ended: Sequence[EndedAttempt] = ()
    strikes: Mapping[str, int] = field(default_factory=dict)
    log: str = ""
    submitted_s: float | None = None
    trace: Mapping[str, Any] = field(default_factory=dict)
    available_gib: float | None = None
    options: Sequence[Option] = ()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key such as ``train.batch_size``; the default if it is absent or null."""
        value: Any = self.profile
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value

    @overload
    def number(self, key: str) -> float | None: ...

    @overload
    def number(self, key: str, default: float) -> float: ...

    def number(self, key: str, default: float | None = None) -> float | None:
        """Return the number of a key; the default if it is absent, null or not a number."""
        value = self.get(key)
        return value if is_number(value) else default

    def newest(self, event: type[E]) -> E | None:
        """Return the newest event of one class."""
        return self.history.newest(event)

    def all_of(self, event: type[E]) -> list[E]:
        """Return the events of one class, oldest first."""
        return self.history.all_of(event)

    @property
    def typed(self) -> str:
        """The run directory as a user would type it from here."""
        path, here = Path(self.path), Path.cwd()
        return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))

    @property
    def total_steps(self) -> int:
        started = self.newest(Started)
        return (started.total_steps if started else None) or 0

    @property
    def step(self) -> int:
        return self.history.step

    @property
    def attempt(self) -> int:
        """Number of the newest attempt."""
        of_leases = max((int(lease.get("attempt") or 0) for lease in self.leases), default=0)
        return max((event.attempt for event in self.history.events), default=of_leases)

    def train(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values of a number of the training records, each shape (N,), where it is finite."""
        return _series(self.history.train, name)

    def evaluated(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values of a number of the evaluations, each shape (N,), where it is finite."""
        return _series(self.history.evaluations, name)

    def in_log(self, pattern: str) -> str:
        """Return the last line of the logs that a regular expression finds, cut to 160 characters; else an empty text.

        Letters of both cases are the same.
        """
        found = [line for line in self.log.splitlines() if re.search(pattern, line, re.IGNORECASE)]
        return found[-1].strip()[:160] if found else ""

    @functools.cached_property
    def seconds(self) -> float:
        """Time between the first and the last record of each attempt, summed [s]."""
        times: dict[int, list[float]] = {}
        for record in [*self.history.train, *self.history.evaluations, *self.history.superseded]:
            times.setdefault(int(record.get("attempt") or 1), []).append(float(record["time"]))
        for event in self.history.events:
            times.setdefault(event.attempt or 1, []).append(event.time_s)
        return sum(max(of) - min(of) for of in times.values())

    @functools.cached_property
    def blocked_s(self) -> float:
        """Time that training waited for checkpoints [s]."""
        return sum(saved.blocked_s or 0.0 for saved in self.all_of(CheckpointSaved))

    @functools.cached_property
    def start_s(self) -> float:
        """Time from the start of the process to the first step, summed over attempts [s]."""
        return sum(first.seconds or 0.0 for first in self.all_of(FirstStep))

    @functools.cached_property
    def steps_lost(self) -> int:
        """Number of steps that were done again after a resume."""
        return sum(resumed.steps_lost or 0 for resumed in self.all_of(Resumed))

    @functools.cached_property
    def pairs(self) -> list[tuple[Record, Record]]:
        """Training records that follow each other in one attempt."""
        train = self.history.train
        return [
            (first, second)
            for first, second in itertools.pairwise(train)
            if first.get("attempt") == second.get("attempt") and second["step"] > first["step"]
        ]

    @functools.cached_property
    def data_wait_s(self) -> float | None:
        """Time that the loop waited for batches [s]; None if no record says it."""
        found = [
            share * self._trained_s(pair) for pair in self.pairs if is_number(share := pair[1].get("data_wait_share"))
        ]
        return sum(found) if found else None

    @functools.cached_property
    def peer_waits(self) -> PeerWaits:
        """For whom the ranks of the newest attempt waited."""
        seconds, lost_s, data_s = 0.0, Counter(), Counter()
        for pair in self.pairs:
            record = pair[1]
            lost, rank = record.get("peer_wait_share"), record.get("slowest_rank")
            if record["attempt"] == self.pairs[-1][1]["attempt"] and is_number(lost) and rank is not None:
                passed_s = self._trained_s(pair)
                seconds += passed_s
                lost_s[rank] += lost * passed_s
                data_s[rank] += (record.get("slowest_data_wait_share") or 0.0) * passed_s
        return PeerWaits(seconds, lost_s, data_s)

    @functools.cached_property
    def trained_s(self) -> float:
        """Time of steps, without the evaluations between them [s]."""
        return sum(self._trained_s(pair) for pair in self.pairs)

    @functools.cached_property
    def evaluation_s(self) -> float:
        """Time between training records in which no step was done: evaluations and their figures [s]."""
        spent = [(second["time"] - first["time"]) - self._trained_s((first, second)) for first, second in self.pairs]
        return sum(max(0.0, each) for each in spent)

    @staticmethod
    def _trained_s(pair: tuple[Record, Record]) -> float:
        first, second = pair
        passed_s = max(0.0, second["time"] - first["time"])
        rate, samples = (
            second.get("samples_per_s"),
            (second.get("samples_seen") or 0) - (first.get("samples_seen") or 0),
        )
        return min(passed_s, samples / rate) if is_number(rate) and rate > 0 else passed_s

    def mean_over_ranks(self, name: str) -> dict[int, float]:
        """Return a statistic of the newest attempt by rank, such as ``mean_gpu_utilisation_percent``."""
        found = {}
        for rank in self.ranks:
            if rank.attempts and name in rank.attempts[-1].statistics:
                found[rank.rank] = rank.attempts[-1].statistics[name]
        return found


def _series(records: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(record["step"], record[name]) for record in records if is_number(record.get(name))]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, dtype=float), np.array(values, dtype=float)


def share(part: float, whole: float) -> float:
    """Return `part` as a share of `whole`; 0 if there is nothing to share."""
    return part / whole if whole > 0 else 0.0


def percent(value: float) -> str:
    """Return a share as text."""
    return f"{100 * value:.0f} %"
