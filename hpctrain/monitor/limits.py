"""Limits of temperature and power, from the profile or from the trip points of the board."""

from __future__ import annotations

import math

from hpctrain.monitor.pace import Limit
from hpctrain.monitor.thermal import Trips

WARM_BELOW_PASSIVE_C, HOT_BELOW_PASSIVE_C = 10.0, 3.0
"""Distances below the temperature at which the firmware lowers the clocks: the run slows down, and pauses [°C]."""
HOT_ABOVE_LIMIT_C, CRITICAL_ABOVE_LIMIT_C = 7.0, 15.0
"""Distances above ``monitor.thermal_limit_c``: the run pauses, and saves and exits, unless the board has its own
critical trip point [°C]."""
HYSTERESIS_C = 5.0
HYSTERESIS_OF_POWER = 0.05
"""Hysteresis of the power level as a share of ``monitor.power_limit_w``."""
WARM_OF_POWER = 0.9
"""Share of ``monitor.power_limit_w`` above which the run slows down; its power settles between that and the limit."""


def temperature_limit(limit_c: float | None, trips: Trips) -> Limit | None:
    """Return the limit of one thermal zone or GPU; None where neither the profile nor the board has one.

    Parameters
    ----------
    limit_c : float or None
        ``monitor.thermal_limit_c`` [°C].
    trips : Trips
        Trip points of the board; all None where they are not reliable.
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
    """Return the limit of power, which slows the run but never pauses it; None where the profile has none.

    Parameters
    ----------
    limit_w : float or None
        ``monitor.power_limit_w`` [W].
    """
    if limit_w is None:
        return None
    warm, origin = WARM_OF_POWER * limit_w, f"monitor.power_limit_w {limit_w:g} W"
    return Limit(warm, math.inf, math.inf, limit_w, HYSTERESIS_OF_POWER * limit_w, "W", origin)
