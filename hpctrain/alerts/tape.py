"""What the rules need of the records of an attempt: the newest losses, speeds, evaluations, and the checkpoints.

The trainer's thread only appends to queues of bounded length. All arithmetic is done by the thread that judges.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

from hpctrain.metrics.events import CheckpointFailed, CheckpointSaved, Started
from hpctrain.records import is_count, is_number

KEPT = 100
"""Number of usual losses that a new one is compared with."""
FEWEST = 20
"""Least number of losses from which the usual one is known."""
QUIET_RECORDS = 20
"""Number of training records that must look usual before a spike is over."""
SETTLED = 200
"""Number of records in a row above the usual loss after which they are the usual ones."""
_WAITING = 20_000
"""Largest number of training records between two looks; more are dropped, the oldest first."""
_RENEW_AFTER = 4
"""Number of usual losses after which the limit is computed again."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


class Tape:
    """Losses, speeds, evaluations and checkpoints of one attempt.

    Parameters
    ----------
    spread : float
        A loss is a spike if it lies so many standard deviations above the usual one, and by half of it.
    """

    def __init__(self, spread: float = 12.0) -> None:
        self._spread = spread
        self._waiting: deque[tuple[Any, Any, Any, Any, Any]] = deque(maxlen=_WAITING)
        self._usual: deque[float] = deque(maxlen=KEPT)
        self._above: list[float] = []
        self._last: tuple[float, int] | None = None
        self._pairs: deque[float] = deque(maxlen=KEPT)
        self._level, self._limit = math.nan, math.inf
        self._num_since = 0
        self.since_spike: int | None = None
        self.spike: tuple[int, float, float] | None = None
        self.useless: deque[bool] = deque(maxlen=FEWEST)
        self.rates: deque[float] = deque(maxlen=10 * FEWEST)
        self.evaluations: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.first_step: int | None = None
        self.saved_step: int | None = None
        self.save_error = ""
        self.has_saved = False
        self.saved_bytes = 0

    def take(self, record: Mapping[str, Any]) -> None:
        """Take one record of ``metrics.jsonl``; cheap enough for the thread that trains."""
        kind = record["kind"]
        if kind == "train":
            found = record.get("loss"), record.get("skipped"), record.get("samples_per_s")
            self._waiting.append((record["step"], record["time"], *found))
        elif kind == "eval":
            self.evaluations.append(dict(record))
        elif kind == "event":
            self._take_event(record)

    def _take_event(self, record: Mapping[str, Any]) -> None:
        name = record.get("event")
        if name == CheckpointSaved.name:
            self.saved_step, self.save_error, self.has_saved = record["step"], "", True
            size = record.get("bytes")
            self.saved_bytes = size if is_count(size) else self.saved_bytes
        elif name == CheckpointFailed.name:
            self.save_error = str(record.get("error") or "unknown error")
        elif name == Started.name:
            self.first_step = record["step"]

    def catch_up(self) -> None:
        """Judge the training records that have come since the last call."""
        while self._waiting:
            step, time_s, loss, skipped, rate = self._waiting.popleft()
            is_finite = is_number(loss)
            self.useless.append(bool(skipped) or (loss is not None and not is_finite))
            if is_number(rate):
                self.rates.append(rate)
            if self._last is not None and step > self._last[1]:
                self._pairs.append((time_s - self._last[0]) / (step - self._last[1]))
            self._last = (time_s, step)
            if is_finite:
                self._take_loss(step, float(loss))

    def _take_loss(self, step: int, loss: float) -> None:
        if len(self._usual) >= FEWEST and loss > self._limit:
            self._above.append(loss)
            if self.since_spike != 0:
                self.spike = (step, loss, self._level)
            self.since_spike = 0
            if len(self._above) >= SETTLED:
                self._usual.clear()
                self._usual.extend(self._above[-KEPT:])
                self._above.clear()
                self._set_limit()
            return
        self._usual.append(loss)
        self._above.clear()
        self.since_spike = None if self.since_spike is None else self.since_spike + 1
        self._num_since += 1
        if self._num_since >= _RENEW_AFTER and len(self._usual) >= FEWEST:
            self._set_limit()

    def _set_limit(self) -> None:
        """Set the limit from the median of the usual losses and their spread around it."""
        self._num_since = 0
        level = statistics.median(self._usual)
        deviation = statistics.median([abs(loss - level) for loss in self._usual])
        self._level = level
        self._limit = level + max(self._spread * _NORMAL * deviation, 0.5 * abs(level))

    @property
    def usual_step_s(self) -> float | None:
        """Usual time of a step, with its share of evaluations and checkpoints [s]; None if it is not known yet."""
        return statistics.median(self._pairs) if len(self._pairs) >= 3 else None

    @property
    def useless_share(self) -> float | None:
        """Share of the newest training records without a finite loss, or whose step was skipped; None if too few."""
        return sum(self.useless) / len(self.useless) if len(self.useless) == FEWEST else None

    @property
    def speeds(self) -> tuple[float, float] | None:
        """Speed now, and the usual one [samples/s]; None if there are too few records."""
        rates = list(self.rates)
        if len(rates) < 2 * FEWEST:
            return None
        return statistics.median(rates[-FEWEST // 2 :]), statistics.median(rates[: -FEWEST // 2])
