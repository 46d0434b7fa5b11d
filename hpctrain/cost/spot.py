r"""Spot machines against others: how much longer a run takes if its machines are taken back now and then.

Interruptions of a job of `n` machines come at random, :math:`\lambda = n \times` ``interruptions_per_hour`` times an
hour. Each costs the start of the next attempt, `R`, until its first step, during which an interruption may come too. If
the save fits into the warning, no step is lost, and work of length `W` takes

.. math:: E = W e^{\lambda R}.

If it does not fit, the run falls back to the checkpoint before, one of each :math:`\tau`, and takes

.. math:: E = \frac{W}{\tau} e^{\lambda R} \frac{e^{\lambda \tau} - 1}{\lambda},

whose limit for small :math:`\tau` is the former. Machines are paid for during `E`; the wait for new machines comes on
top of it and costs time alone.

References
----------
J. T. Daly 2006, Future Generation Computer Systems 22, 303 (equation 13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpctrain.cost.hours import S_PER_H
from hpctrain.cost.machine import Machine
from hpctrain.cost.money import amount_per_hour
from hpctrain.profile.sections.prices import PriceSection

_MOST = 700.0
"""Largest exponent whose exponential fits a double: a run with more interruptions never ends."""


@dataclass(frozen=True)
class Spot:
    """A run on spot machines against the same run on others.

    Parameters
    ----------
    time_ratio : float
        Paid time on spot machines against that on others; infinite if the run would never end.
    price_ratio : float
        Price of an hour against that on others.
    interruptions : float
        Expected number of them.
    saves_in_time : bool
        Whether the save of the run fits into the warning.
    """

    time_ratio: float
    price_ratio: float
    interruptions: float
    saves_in_time: bool

    @property
    def cost_ratio(self) -> float:
        return self.time_ratio * self.price_ratio

    def __str__(self) -> str:
        if math.isinf(self.time_ratio):
            return "spot machines: the run would be interrupted so often that it would never end"
        lost = "none loses a step" if self.saves_in_time else "each loses the steps since the last checkpoint"
        verdict = "cheaper" if self.cost_ratio < 1 else "not cheaper"
        return (
            f"spot machines would be {verdict}: {self.time_ratio:.2f} x the paid time at {self.price_ratio:.2f} of the "
            f"price = {self.cost_ratio:.2f} of the cost; {self.interruptions:.1f} interruptions expected, {lost}"
        )


def expected_ratio(rate_per_s: float, start_s: float, interval_s: float) -> float:
    """Return the expected paid time of a run that is interrupted, against one that is not.

    Parameters
    ----------
    rate_per_s : float
        Interruptions of the job [1/s].
    start_s : float
        From the start of an attempt to its first step [s].
    interval_s : float
        Work between two checkpoints [s]; 0 if every interruption is saved in time.
    """
    if rate_per_s <= 0:
        return 1.0
    if rate_per_s * (start_s + interval_s) > _MOST:
        return math.inf
    again = math.expm1(rate_per_s * interval_s) / (rate_per_s * interval_s) if interval_s else 1.0
    return math.exp(rate_per_s * start_s) * again


def spot_against_others(
    entry: PriceSection | None, machine: Machine, work_s: float, start_s: float, save_s: float, interval_s: float
) -> Spot | None:
    """Return how a run would do on spot machines; None if the price list lacks their price or rate of interruptions.

    Parameters
    ----------
    entry : PriceSection or None
    machine : Machine
    work_s : float
        Time of the run without interruptions [s].
    start_s, save_s, interval_s : float
        From the start of an attempt to its first step, to save, and between two saves [s].
    """
    if entry is None or entry.interruptions_per_hour is None:
        return None
    full = amount_per_hour(entry, machine, is_spot=False)
    if not full or (entry.spot_gpu_hour is None and entry.spot_node_hour is None):
        return None
    rate = machine.nodes * entry.interruptions_per_hour / S_PER_H
    in_time = save_s <= entry.warning_s
    ratio = expected_ratio(rate, start_s, 0.0 if in_time else interval_s)
    price_ratio = amount_per_hour(entry, machine, is_spot=True) / full
    return Spot(ratio, price_ratio, rate * work_s * ratio, in_time)
