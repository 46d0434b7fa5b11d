"""Hours and energy of a run from the small files of its directory; ``metrics.jsonl`` need not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpctrain.launch.history import EndedAttempt, read_history
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.records import Record
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.profile.sections.launch import LaunchSection

S_PER_H = 3600.0


def attempts_of(run: RunDir) -> list[tuple[float, int]]:
    """Return seconds and ranks of all attempts of a run so far; one that was killed lasted until its last sign."""
    return lengths_of(run.read_attempts(), read_history(run), run.read_heartbeats())


def lengths_of(
    attempts: Sequence[Record], history: Sequence[EndedAttempt], beats: Sequence[Record]
) -> list[tuple[float, int]]:
    """Return seconds and ranks of attempts, from their records, those of their ends, and signs of life."""
    signs = {ended.time for ended in history} | {beat.get("time", 0.0) for beat in beats}
    starts = [attempt.get("started_at", 0.0) for attempt in attempts]
    found = []
    for attempt, start, until in zip(attempts, starts, [*starts, float("inf")][1:], strict=True):
        end = max((sign for sign in signs if start <= sign <= until), default=start)
        found.append((end - start, attempt.get("world_size", 1)))
    return found


def gpu_hours_of(run: RunDir) -> float:
    """Return the hours of GPUs, or of ranks where there are none, of all attempts of a run so far."""
    return sum(seconds / S_PER_H * num_ranks for seconds, num_ranks in attempts_of(run))


def energy_kwh_of(run: RunDir) -> float | None:
    """Return the energy of all attempts of a run so far [kWh]; None where no sensor measured it."""
    return sum_up(read_ledgers(run)).kwh


def per_rank(launch: LaunchSection) -> tuple[float, float]:
    """Return the number of cores and of GPUs that a rank of a run has."""
    return float(launch.cpus_per_rank), launch.gpus_per_node / launch.ranks_on_each_node
