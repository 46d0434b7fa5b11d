"""How many GPUs a run would have kept busy, from the utilisation that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain.monitor.ledger import RankState

FULL = 0.95
"""Utilisation that we count on where fewer GPUs do the same work."""
LONGEST = 1.5
"""Largest ratio of times that we suggest."""
WORTH_IT = 0.8
"""Largest ratio of costs that we suggest: advice that saves less is within what utilisation can tell."""


@dataclass(frozen=True)
class Size:
    """A smaller number of GPUs.

    Parameters
    ----------
    gpus : int
    instead_of : int
    utilisation : float
        Mean of the GPUs that there were, 0 to 1.
    time_ratio, cost_ratio : float
        Expected time, and expected GPU hours, against those of the run.
    """

    gpus: int
    instead_of: int
    utilisation: float
    time_ratio: float
    cost_ratio: float

    def __str__(self) -> str:
        few = "one" if self.gpus == 1 else str(self.gpus)
        longer = f"about {self.time_ratio:.1f} x as long" if self.time_ratio > 1.05 else "about as long"
        return (
            f"{self.instead_of} GPUs at {self.utilisation:.0%}: {few} would take {longer} and cost "
            f"{self.cost_ratio:.2f} of it"
        )


def right_size(gpus: int, utilisation: float) -> Size | None:
    r"""Return the cheapest smaller number of GPUs that would not take much longer; None if there is none.

    The work of `n` GPUs that were busy for a share `u` of the time `T` is :math:`n u T`. On `m` GPUs that can be busy
    for at most :data:`FULL` of the time it takes :math:`T \max(1, n u / (0.95 m))`, and costs that times :math:`m / n`.
    It never takes less than `T`: what the GPUs waited for (reading, the host, the network) stays.

    Parameters
    ----------
    gpus : int
        Number of GPUs of the run; `m` is one of its divisors, so that accumulation keeps the global batch.
    utilisation : float
        Their mean utilisation, 0 to 1. The driver counts a GPU as busy while any kernel runs on it, so that it may do
        even less.
    """
    best = None
    for fewer in range(1, gpus):
        if gpus % fewer:
            continue
        time_ratio = max(1.0, gpus * utilisation / (FULL * fewer))
        cost_ratio = time_ratio * fewer / gpus
        if time_ratio <= LONGEST and cost_ratio <= WORTH_IT and (best is None or cost_ratio < best.cost_ratio):
            best = Size(fewer, gpus, utilisation, time_ratio, cost_ratio)
    return best


def right_size_of(states: Sequence[RankState], gpus: int | None = None) -> Size | None:
    """Return the advice of :func:`right_size` for the newest attempt of a run.

    Parameters
    ----------
    states : sequence of RankState
        Records of all ranks.
    gpus : int, optional
        Number of GPUs; one for each rank by default.
    """
    newest = max((state.attempt for state in states), default=0)
    name = "mean_gpu_utilisation_percent"
    every = [sums for state in states for sums in state.attempts if sums.attempt == newest]
    found = [(sums.statistics[name], max(sums.measured_s, 1e-3)) for sums in every if name in sums.statistics]
    if not found:
        return None
    mean = sum(value * weight for value, weight in found) / sum(weight for _, weight in found)
    return right_size(gpus or len(found), mean / 100)
