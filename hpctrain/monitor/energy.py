"""Energy from power and from counters; time without a measurement is reported, not filled in."""

from __future__ import annotations

J_PER_KWH = 3.6e6


class EnergyMeter:
    """Sum up energy over the time of one attempt.

    Power is integrated by the trapezoidal rule between neighbouring samples. Where they are further apart than
    `longest_gap_s` (a rank that hung, a suspended board, a sensor without values) the time counts as unmeasured.
    A counter in hardware continues during gaps.

    Parameters
    ----------
    longest_gap_s : float
        Longest time between two samples that counts as measured [s].
    """

    def __init__(self, longest_gap_s: float) -> None:
        self._longest_gap_s = longest_gap_s
        self._power: dict[str, tuple[float, float]] = {}
        self._counter: dict[str, tuple[float, float]] = {}
        self._last_s: dict[str, float] = {}
        self.joules: dict[str, float] = {}
        self.unmeasured_s: dict[str, float] = {}

    @property
    def total_j(self) -> float | None:
        """Energy of all sources [J]; None where there is none."""
        return sum(self.joules.values()) if self.joules else None

    @property
    def longest_unmeasured_s(self) -> float:
        """Unmeasured time of the source that has most of it [s]."""
        return max(self.unmeasured_s.values(), default=0.0)

    def add_power(self, source: str, now_s: float, watts: float | None) -> None:
        """Add a sample of power.

        Parameters
        ----------
        source : str
        now_s : float
            Time on a clock that never goes back.
        watts : float or None
            None while the sensor gives no value.
        """
        elapsed_s = self._elapsed(source, now_s)
        before = self._power.pop(source, None)
        if watts is None:
            self.unmeasured_s[source] += elapsed_s
            return
        self._power[source] = (now_s, watts)
        if before is not None and elapsed_s <= self._longest_gap_s:
            self.joules[source] += 0.5 * (before[1] + watts) * elapsed_s
        else:
            self.unmeasured_s[source] += elapsed_s

    def add_counter(self, source: str, now_s: float, joules: float | None, wrap_j: float | None = None) -> float | None:
        """Add a reading of an energy counter and return the mean power since the last reading [W].

        Parameters
        ----------
        source : str
        now_s : float
        joules : float or None
            None while the counter cannot be read.
        wrap_j : float, optional
            Value at which the counter starts from 0 again. Without it, the energy is unknown for the interval in which
            the counter went back.
        """
        elapsed_s = self._elapsed(source, now_s)
        before = self._counter.get(source)
        if joules is None:
            return None  # the next reading counts this time too
        self._counter[source] = (now_s, joules)
        if before is None:
            return None
        difference = joules - before[1]
        if difference < 0 and wrap_j is not None:
            difference += wrap_j
        if difference < 0:
            self.unmeasured_s[source] += elapsed_s
            return None
        self.joules[source] += difference
        return difference / (now_s - before[0]) if now_s > before[0] else None

    def _elapsed(self, source: str, now_s: float) -> float:
        self.joules.setdefault(source, 0.0)
        self.unmeasured_s.setdefault(source, 0.0)
        elapsed_s = now_s - self._last_s.get(source, now_s)
        self._last_s[source] = now_s
        return elapsed_s
