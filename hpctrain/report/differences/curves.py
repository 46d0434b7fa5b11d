"""Where the curves of two runs part, and what they end with."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from hpctrain.metrics.read import History
from hpctrain.records import Record, is_number
from hpctrain.rundir import RunDir

VISIBLE = 0.01
"""Relative difference of two losses that one would see in a figure."""
_OF_THE_RECORD = {"kind", "step", "time", "attempt", "event"}


@dataclass(frozen=True)
class Parting:
    """Where the training losses of two runs part.

    Parameters
    ----------
    num_common : int
        Number of steps whose loss both have recorded.
    last_equal : int or None
        Last step up to which all common losses are equal, bit by bit; None if the first one differs.
    first_step : int or None
        First common step whose loss differs; None if none does.
    losses : tuple of float or None
        The two losses there.
    visible_step : int or None
        First common step at which they differ by more than 1 %.
    """

    num_common: int
    last_equal: int | None = None
    first_step: int | None = None
    losses: tuple[float, float] | None = None
    visible_step: int | None = None


@dataclass(frozen=True)
class Ends:
    """A number of the last records of two runs.

    Parameters
    ----------
    name : str
        Such as ``best evaluation: loss``.
    before, after : float or None
        None if a run has none.
    """

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """The second minus the first."""
        return None if self.before is None or self.after is None else self.after - self.before


def parting_of(before: RunDir, after: RunDir) -> Parting:
    """Compare the losses of all training records of two runs; 16 bytes per record are in memory."""
    steps, losses = _losses(before)
    others, other_losses = _losses(after)
    count, last, first, pair, visible = 0, None, None, None, None
    for step, loss in zip(steps, losses, strict=True):
        place = bisect_left(others, step)
        if place == len(others) or others[place] != step:
            continue
        count += 1
        other = other_losses[place]
        if loss == other:
            last = step if first is None else last
            continue
        if first is None:
            first, pair = step, (loss, other)
        if abs(loss - other) > VISIBLE * max(abs(loss), abs(other)):
            visible = step
            break
    return Parting(count, last, first, pair, visible)


def _losses(run: RunDir) -> tuple[array[int], array[float]]:
    """Return steps, in order, and losses; of a step that was done twice the last one counts."""
    steps, losses = array("q"), array("d")
    for record in run.read_metrics("train"):
        step, loss = record.get("step"), record.get("loss")
        if not isinstance(step, int) or not is_number(loss):
            continue
        while steps and steps[-1] >= step:  # a later attempt has begun again at an earlier step
            steps.pop()
            losses.pop()
        steps.append(step)
        losses.append(loss)
    return steps, losses


def ends_of(before: History, after: History) -> list[Ends]:
    """Return the numbers of the last training record and of the last evaluation of two runs, and their speed."""
    found = [Ends("steps", float(before.step), float(after.step))]
    for title, records, others in (
        ("last step", before.train, after.train),
        ("last evaluation", before.evaluations, after.evaluations),
    ):
        one, other = _last(records), _last(others)
        names = [name for name in {**one, **other} if name not in _OF_THE_RECORD]
        found += [Ends(f"{title}: {name}", _number(one, name), _number(other, name)) for name in names]
    return [ends for ends in found if ends.before is not None or ends.after is not None]


def _last(records: list[Record]) -> Record:
    return records[-1] if records else {}


def _number(record: Record, name: str) -> float | None:
    value: Any = record.get(name)
    return float(value) if is_number(value) else None
