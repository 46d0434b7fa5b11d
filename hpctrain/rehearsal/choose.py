"""Which step of a run to look into: that of the divergence, or that of the largest spike of the loss. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpctrain.checkpoint.whole import list_checkpoints, verify
from hpctrain.errors import Problem, ProfileError
from hpctrain.metrics.events import Diverged
from hpctrain.metrics.read import History
from hpctrain.records import is_number
from hpctrain.rundir import RunDir

WINDOW = 30
"""Number of records before a step with which its loss is compared."""
_LEAST = 5
"""Smallest number of them."""
CLEAR = 5.0
"""Height of a spike that stands out, in standard deviations of the records before it."""


@dataclass(frozen=True)
class Chosen:
    """A step, why it was chosen, in words, and whether the records show that something went wrong there."""

    step: int
    why: str
    is_trouble: bool = False


def choose_step(run: RunDir, history: History, wish: int | None) -> Chosen:
    """Return the step to look into; step k leads from k - 1 to k updates.

    Raises
    ------
    ProfileError
        The run has no such step, or nothing that could be chosen.
    """
    diverged = history.newest(Diverged)
    last = max(history.step, diverged.step if diverged is not None else 0)
    if wish is not None:
        if not 1 <= wish <= max(last, 1):
            raise ProfileError(str(run.path), [Problem("--step", f"{wish} is not between 1 and {last}, the last step")])
        return Chosen(wish, "you have chosen it", diverged is not None and diverged.step == wish)
    if diverged is not None:
        return Chosen(diverged.step, f"the {diverged.quantity or 'loss'} is not finite there", True)
    found = largest_spike([(r["step"], r["loss"]) for r in losses_of(history)])
    if found is None:
        message = f"name a step: fewer than {_LEAST + 1} losses are recorded, too few to find a spike"
        raise ProfileError(str(run.path), [Problem("--step", message)])
    step, height = found
    if height < CLEAR:
        return Chosen(step, "no loss stands out much; this one lies highest above those before it")
    return Chosen(step, f"the largest spike: the loss is {height:.3g} standard deviations above those before it", True)


def losses_of(history: History) -> list[dict]:
    """Return the ``train`` records with a finite loss, by step, each step once."""
    records = {r["step"]: r for r in [*history.extremes, *history.train] if is_finite(r.get("loss"))}
    return [records[step] for step in sorted(records)]


def is_finite(value: object) -> bool:
    """Return whether a value of a record is a finite number."""
    return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]


def largest_spike(losses: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    """Return the step whose loss is highest above the records before it, and the height; None if there are too few.

    The height is the distance from the median of the last `WINDOW` records, in units of 1.4826 times their median
    absolute deviation (one standard deviation of a normal distribution), plus a thousandth of the median so that a
    flat curve has no spikes.
    """
    best: tuple[int, float] | None = None
    values = np.array([loss for _, loss in losses], dtype=np.float64)
    for number in range(_LEAST, len(values)):
        before = values[max(0, number - WINDOW) : number]
        middle = float(np.median(before))
        spread = 1.4826 * float(np.median(np.abs(before - middle))) + 1e-3 * abs(middle) + 1e-12
        height = float(values[number] - middle) / spread
        if best is None or height > best[1]:
            best = losses[number][0], height
    return best


def checkpoint_before(run: RunDir, step: int) -> int | None:
    """Return the step of the newest whole checkpoint from which `step` can be done again; None for the very start."""
    for saved, path in list_checkpoints(run):
        if saved < step and verify(path) is None:
            return saved
    return None
