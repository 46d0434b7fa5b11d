"""Map values to positions on the page: linear and logarithmic scales with round ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DASH = "–"
"""What stands for an unknown number."""

MINUTE, HOUR, DAY = 60, 3600, 86400
_TIME_STEPS_S = (
    1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR,
    3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 56 * DAY, 112 * DAY,
)  # fmt: skip
_MOST_DECIMALS = 7
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """Map values to positions between two ends.

    Parameters
    ----------
    low, high : float
        Values at the ends.
    start, end : float
        Positions of the ends on the page; `start` may be larger, because y points downwards.
    kind : str
        ``linear``, ``log``, ``time`` (seconds, labelled as minutes, hours, days), or ``names``.
    names : tuple of str
        Labels of the values 0, 1, 2, ... of the kind ``names``.
    """

    low: float
    high: float
    start: float
    end: float
    kind: str = "linear"
    names: tuple[str, ...] = ()

    def place(self, values: np.ndarray | float) -> np.ndarray:
        """Return the positions of `values`; NaN for values without a logarithm."""
        values = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.kind == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(values > 0, np.log10(np.where(values > 0, values, 1.0)), np.nan)
            low, high = math.log10(low), math.log10(high)
        return self.start + (values - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int) -> list[tuple[float, str]]:
        """Return about this number of (value, label) pairs within the ends; every name of the kind ``names``."""
        if self.kind == "names":
            return [(float(place), name) for place, name in enumerate(self.names)]
        if self.kind == "log":
            return _log_ticks(self.low, self.high, about)
        if self.kind == "time":
            return _time_ticks(self.low, self.high, about)
        return linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Return multiples of 1, 2 or 5 times a power of ten with labels of as many digits as necessary."""
    step = _nice_step((high - low) / max(1, about))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [number * step for number in range(first, last + 1)]
    return [(value, label) for value, label in zip(values, _labels(values, step), strict=True)]


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _labels(values: list[float], step: float) -> list[str]:
    largest = max((abs(value) for value in values), default=0.0)
    if largest and (largest < 1e-3 or largest >= 1e7):
        return [scientific(value, max(0, round(math.log10(largest / step)))) if value else "0" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [grouped(value, decimals) for value in values]


def grouped(value: float, decimals: int = 0) -> str:
    """Return a number with thin spaces between thousands and a true minus sign."""
    text = f"{value:,.{decimals}f}" if abs(value) >= 10000 else f"{value:.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace(",", "\u202f").replace("-", "−")


def scientific(value: float, digits: int = 1) -> str:
    """Return a number as ``2.5×10⁻⁴``, or as ``10⁻⁴`` if the factor is one."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if mantissa == "1" else f"{mantissa}×{power}".replace("-", "−")


def _log_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    decades = math.log10(high) - math.log10(low)
    if decades < 0.7:  # a fraction of a decade reads better with even steps
        return [(value, label) for value, label in linear_ticks(low, high, about) if value > 0]
    factors = (1, 2, 5) if decades <= about / 2.5 else (1, 3) if decades <= about / 2 else (1,)
    every = max(1, math.ceil(decades / max(1, about)))
    ticks = []
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for factor in factors:
            value = factor * 10.0**exponent
            if low * 0.999 <= value <= high * 1.001 and exponent % every == 0:
                ticks.append((value, _log_label(value, exponent)))
    return ticks


def _log_label(value: float, exponent: int) -> str:
    if -3 <= exponent <= 4:
        return grouped(value, max(0, -exponent))
    return scientific(value, 0)


def _time_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    rough = (high - low) / max(1, about)
    step = next((step for step in _TIME_STEPS_S if step >= rough), _TIME_STEPS_S[-1])
    first, last = math.ceil(low / step), math.floor(high / step)
    unit, name = next(((u, n) for u, n in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")) if step >= u), (1, "s"))
    if unit == MINUTE and high > 2 * HOUR:
        return [(n * step, _clock(n * step)) for n in range(first, last + 1)]
    return [(n * step, f"{n * step / unit:g} {name}" if n else "0") for n in range(first, last + 1)]


def _clock(seconds: int) -> str:
    return f"{seconds // HOUR}:{seconds % HOUR // MINUTE:02d} h" if seconds else "0"


def significant(value: float | None) -> str:
    """Return a number with four significant digits, for a card; a dash for None."""
    return DASH if value is None else f"{value:.4g}".replace("-", "−")


def with_interval(value: float | None, low: float | None, high: float | None) -> tuple[str, str, str]:
    """Return a number and the ends of its interval with as many digits as the interval supports.

    The narrower side of the interval gets two significant digits; a number without an interval has four.
    """
    decimals = interval_decimals(value, low, high)
    if decimals is None:
        return significant(value), significant(low), significant(high)
    return tuple(grouped(number, decimals) for number in (value, low, high))  # type: ignore[return-value, arg-type]


def interval_decimals(value: float | None, low: float | None, high: float | None) -> int | None:
    """Return the decimals that an interval supports; None without an interval, or if they would be more than 7."""
    if value is None or low is None or high is None:
        return None
    sides = [side for side in (value - low, high - value) if side > 0]
    if not sides:
        return None
    decimals = max(0, 1 - math.floor(math.log10(min(sides)) + 1e-12))
    return decimals if decimals <= _MOST_DECIMALS else None


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """Return limits with a margin, which never have width zero."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    air = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - air, high + air
