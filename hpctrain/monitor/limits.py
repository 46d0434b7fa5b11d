"""Limits of temperature and power: the profile's, else those of the board's own trip points."""

from __future__ import annotations

import math

from hpctrain.monitor.pace import Limit
from hpctrain.monitor.thermal import Trips

WARM_BELOW_PASSIVE_C, HOT_BELOW_PASSIVE_C = 10.0, 3.0
"""So far below the point where the firmware lowers the clocks, the run slows down, and waits."""
HOT_ABOVE_LIMIT_C, CRITICAL_ABOVE_LIMIT_C = 7.0, 15.0
"""So far above ``monitor.thermal_limit_c`` it waits, and leaves, unless the board has its own last point."""
HYSTERESIS_C = 5.0
HYSTERESIS_OF_POWER = 0.05
"""Of ``monitor.power_limit_w``."""
WARM_OF_POWER = 0.9
"""Share of ``monitor.power_limit_w`` from which on the run slows down: it settles between there and the limit."""


def temperature_limit(limit_c: float | None, trips: Trips) -> Limit | None:
    """Return the limit of one thermal zone or GPU; None where neither profile nor board has one.

    Parameters
    ----------
    limit_c : float or None
        ``monitor.thermal_limit_c`` [°C].
    trips : Trips
        The board's; all None where they say nothing about this machine.
    """
    last = trips.hot if trips.hot is not None else trips.critical
    if limit_c is not None:
        critical = limit_c + CRITICAL_ABOVE_LIMIT_C if last is None else last
        hot = min(limit_c + HOT_ABOVE_LIMIT_C, critical - 1.0)
        warm = min(limit_c, hot - 1.0)
        origin = f"monitor.thermal_limit_c {limit_c:g} °C"
    elif trips.passive is not None:
        warm, hot = trips.passive - WARM_BELOW_PASSIVE_C, trips.passive - HOT_BELOW_PASSIVE_C
        critical = math.inf if last is None else max(last, hot + 1.0)
        origin = f"the board slows itself down at {trips.passive:g} °C"
    else:
        return None
    return Limit(warm, hot, critical, hot, HYSTERESIS_C, "°C", origin)


def power_limit(limit_w: float | None) -> Limit | None:
    """Return the limit of power, which slows the run but never halts it; None where the profile has none.

    Parameters
    ----------
    limit_w : float or None
        ``monitor.power_limit_w`` [W].
    """
    if limit_w is None:
        return None
    warm, origin = WARM_OF_POWER * limit_w, f"monitor.power_limit_w {limit_w:g} W"
    return Limit(warm, math.inf, math.inf, limit_w, HYSTERESIS_OF_POWER * limit_w, "W", origin)
