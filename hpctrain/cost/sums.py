"""The sums of an attempt, of a run, and of many runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What attempts have cost together.

    Parameters
    ----------
    seconds : float
        Time of the attempts one after the other, without the time in the queue [s].
    node_h, gpu_h, cpu_h : float
        Hours times the number of nodes, GPUs and cores that the job had.
    measured_kwh : float or None
        Energy by sensors [kWh]; None if no attempt was measured.
    estimated_kwh : float
        Energy of the attempts without a sensor, at the largest power of the GPUs and of the cores [kWh].
    co2_kg : float or None
        CO2 of this energy [kg]; None if the site gives no carbon intensity.
    money : dict
        Money by currency; empty without a price list.
    repeated_s, restart_s : float
        Work that was lost and repeated, and starts of all attempts but the first until their first step [s].
    lost_gpu_h, lost_cpu_h : float
        Hours of GPUs and cores in these times.
    lost_money : dict
        Money for these times.
    idle_gpu_h : float or None
        Hours in which GPUs did nothing during the time that was measured; None if their utilisation was not measured.
    watched_gpu_h : float
        GPU hours whose utilisation was measured.
    attempts : int
    """

    seconds: float = 0.0
    node_h: float = 0.0
    gpu_h: float = 0.0
    cpu_h: float = 0.0
    measured_kwh: float | None = None
    estimated_kwh: float = 0.0
    co2_kg: float | None = None
    money: Mapping[str, float] = field(default_factory=dict)
    repeated_s: float = 0.0
    restart_s: float = 0.0
    lost_gpu_h: float = 0.0
    lost_cpu_h: float = 0.0
    lost_money: Mapping[str, float] = field(default_factory=dict)
    idle_gpu_h: float | None = None
    watched_gpu_h: float = 0.0
    attempts: int = 0

    @property
    def kwh(self) -> float:
        """Energy, measured and estimated [kWh]."""
        return (self.measured_kwh or 0.0) + self.estimated_kwh

    @property
    def lost_s(self) -> float:
        """Time that faults have cost [s]."""
        return self.repeated_s + self.restart_s

    @property
    def utilisation(self) -> float | None:
        """Mean utilisation of the GPUs while it was measured, 0 to 1; None if it was not."""
        if self.idle_gpu_h is None or not self.watched_gpu_h:
            return None
        return 1.0 - self.idle_gpu_h / self.watched_gpu_h

    def __add__(self, other: Cost) -> Cost:
        mine, its = vars(self), vars(other)
        return Cost(**{name: _added(mine[name], its[name]) for name in mine})

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with what follows from them."""
        return {**asdict(self), "kwh": self.kwh, "lost_s": self.lost_s, "utilisation": self.utilisation}


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())


def _added(one: Any, other: Any) -> Any:
    """Return the sum; None is what is not known, and does not make unknown what is."""
    if isinstance(one, Mapping):
        return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in (*one, *(k for k in other if k not in one))}
    if one is None or other is None:
        return other if one is None else one
    return one + other
