"""Which number of an evaluation decides that it is the best one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """The number that decides which evaluation is the best one.

    Parameters
    ----------
    metric : str
        Name among the metrics of an evaluation.
    lower_is_better : bool
    """

    metric: str = "loss"
    lower_is_better: bool = True

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Return whether `value` is better than `best` by more than `min_delta`."""
        if best is None:
            return True
        return value < best - min_delta if self.lower_is_better else value > best + min_delta
