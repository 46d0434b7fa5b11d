"""Steps of a run done again from a checkpoint, and how well their losses agree with those that the run recorded."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.checkpoint.store import read_checkpoint
from hpctrain.checkpoint.whole import checkpoint_path
from hpctrain.rehearsal.choose import is_finite
from hpctrain.rehearsal.stage import batches_of
from hpctrain.rundir import RunDir
from hpctrain.train.run import Run
from hpctrain.train.start import begin_anew
from hpctrain.train.state import capture, restore

if TYPE_CHECKING:
    from hpctrain.train.step import StepResult

ROUNDING = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2, "fp16": 5e-2}
"""Largest relative difference of two losses that other orders of summation explain, by precision: steps amplify it."""


@dataclass(frozen=True)
class Point:
    """One step that was done again; `loss` is None if nothing had weight, and may be infinite or NaN."""

    step: int
    loss: float | None
    gradient_norm: float | None
    learning_rate: float
    recorded: float | None = None
    """Loss that the run recorded; None if it recorded none."""

    @property
    def difference(self) -> float | None:
        """Relative difference from the recorded loss."""
        if self.recorded is None or self.loss is None or not math.isfinite(self.loss):
            return None
        return abs(self.loss - self.recorded) / max(abs(self.recorded), 1e-12)


@dataclass(frozen=True)
class Agreement:
    """How the replay compares with the records.

    Parameters
    ----------
    compared : int
        Number of steps whose loss was recorded.
    largest : float or None
        Largest relative difference; None if no step could be compared.
    allowed : float
        Largest difference that rounding explains.
    """

    compared: int
    largest: float | None
    allowed: float

    @property
    def is_good(self) -> bool:
        return self.largest is not None and self.largest <= self.allowed

    def describe(self) -> str:
        if self.largest is None:
            return "The run recorded no loss of these steps, so the replay cannot be compared with it."
        steps = "1 step" if self.compared == 1 else f"{self.compared} steps"
        if self.largest == 0:
            return f"The replayed losses of {steps} are exactly those that the run recorded."
        size = f"the largest relative difference of {steps} from the recorded losses is {self.largest:.2g}"
        if self.is_good:
            return f"The replay agrees within rounding: {size} (allowed: {self.allowed:g})."
        return f"THE REPLAY DIFFERS FROM THE RUN: {size}, more than the {self.allowed:g} that rounding explains."


def begin(run: Run, directory: RunDir, checkpoint: int | None) -> None:
    """Load a checkpoint of the run directory, which is only read; None begins anew, as the first attempt did.

    Raises
    ------
    DataError
        The data are not those of the checkpoint.
    CheckpointError
        The checkpoint does not fit the network of the profile.
    """
    if checkpoint is None:
        begin_anew(run)
    else:
        restore(run, *read_checkpoint(checkpoint_path(directory, checkpoint)))


def kept(run: Run) -> Callable[[], None]:
    """Return a function that gives the run its state of now again."""
    tensors, state = capture(run)
    tensors = {file: {name: t.detach().clone() for name, t in named.items()} for file, named in tensors.items()}
    state = copy.deepcopy(state)
    return lambda: restore(run, tensors, state)


def replay(
    run: Run,
    until: int,
    recorded: Mapping[int, float],
    without: np.ndarray | None = None,
    tick: Callable[[int], Any] = lambda step: None,
) -> list[Point]:
    """Do the steps from the run's step to `until`; stop after a loss that is not finite, as the trainer does.

    Parameters
    ----------
    run : Run
    until : int
        Number of completed steps afterwards.
    recorded : mapping of int to float
        Recorded losses by step.
    without : ndarray, int64, optional
        Rows to leave out; the others keep their places and random numbers.
    tick : callable
        Takes the step that is done.
    """
    points: list[Point] = []
    with batches_of(run, range(run.progress.step, until), without) as batches:
        while run.progress.step < until:
            result = run.update(run.progress.step, batches)
            run.progress.step = result.step
            points.append(point_of(run, result, recorded))
            tick(result.step)
            loss = points[-1].loss
            if loss is not None and not math.isfinite(loss):
                break
    return points


def point_of(run: Run, result: StepResult, recorded: Mapping[int, float]) -> Point:
    """Return the numbers of a step as the records have them."""
    sums, loss, norm = result.sums, None, None
    if not result.is_empty:
        finite = math.isfinite(sums["loss_sum"])
        loss = float(run.model.metrics(sums)["loss"]) if finite else sums["loss_sum"]
        norm = result.gradient_norm
    rate = run.schedule.learning_rate(result.step - 1)
    return Point(result.step, loss, norm, rate, recorded.get(result.step))


def agreement(points: list[Point], precision: str) -> Agreement:
    """Compare the points with the records."""
    found = [point.difference for point in points if is_finite(point.difference)]
    return Agreement(len(found), max(found, default=None), ROUNDING.get(precision, 1e-4))  # type: ignore[type-var]
