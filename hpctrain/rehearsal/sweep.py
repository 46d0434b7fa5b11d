"""Learning rate range test: train for some hundred steps while the learning rate rises exponentially.

References
----------
.. [1] Smith 2017, "Cyclical learning rates for training neural networks", WACV, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hpctrain.distributed.world import World
from hpctrain.profile.schema import Profile
from hpctrain.rehearsal.replay import point_of
from hpctrain.rehearsal.stage import batches_of, device_name, staged
from hpctrain.train.build import make_data
from hpctrain.train.run import Data
from hpctrain.train.schedule import Schedule
from hpctrain.train.start import begin_anew

WIDTH = 0.02
"""Standard deviation of the smoothing, as a share of the number of steps; it is centred, so it moves no minimum."""
DIVISOR = 10.0
"""The suggestion is the learning rate of the lowest smoothed loss divided by this."""
_NEIGHBOURS = 7
"""Number of steps whose median says whether the loss has blown up, and whether one batch is an outlier."""
_OUTLYING = 8.0
"""Distance from the median of its neighbours, in standard deviations of the sweep, at which a loss does not count."""
_BLOWN_UP = 3.0
"""The sweep ends when this median has risen this many times as far as it had fallen."""
_LEAST_STEPS = 10
_FALL = 3.0
"""The loss must fall by this many standard errors of the smoothed loss; else nothing is suggested."""


@dataclass(frozen=True)
class RangeTest(Schedule):
    """The schedule of a profile with a learning rate that rises from `low` to `high` in `num` steps."""

    low: float = 1e-7
    high: float = 1.0
    num: int = 300

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the step from `step` to ``step + 1``."""
        return self.low * (self.high / self.low) ** (min(step, self.num - 1) / max(1, self.num - 1))


@dataclass(frozen=True)
class Sweep:
    """What a sweep found. S steps.

    Parameters
    ----------
    rates, losses, smoothed : list of float, length S
        Learning rate, loss of the batch before the update with it, and smoothed loss of each step with a finite loss.
    ended : str
        Why it ended.
    suggested : float or None
        None where the loss did not fall.
    steepest, lowest : float or None
        Learning rates at which the smoothed loss falls fastest, and is lowest.
    notes : list of str
        What to know before believing it.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    ended: str
    device: str
    suggested: float | None
    steepest: float | None
    lowest: float | None
    notes: list[str]


def sweep(
    profile: Profile, source: str, low: float, high: float, num: int, device: str | None, tick: Callable[[int], Any]
) -> Sweep:
    """Run a range test from the weights with which a run of the profile would begin; nothing is stored.

    Parameters
    ----------
    profile : Profile
        Its warm-up, schedule, moving averages and number of epochs do not count.
    source : str
        Its file, for messages.
    low, high : float
        First and last learning rate.
    num : int
        Number of steps.
    device : str or None
        None for that of the profile.
    tick : callable
        Takes the number of steps that are done.

    Raises
    ------
    ProfileError, DataError, SiteError
        The profile, its data or the device do not serve.
    """
    torch.set_num_threads(max(1, min(profile.launch.cpus_per_rank, torch.get_num_threads())))
    make_data(profile, World())
    train = profile.train.model_copy(update={"ema_decay": None, "keep_zeros": False, "early_stopping": None})

    def schedule(profile: Profile, data: Data) -> RangeTest:
        enough = math.ceil(num * profile.global_batch / len(data.train_rows)) + 1
        longer = profile.model_copy(update={"train": profile.train.model_copy(update={"epochs": enough})})
        return RangeTest(longer, len(data.train_rows), data.blocks, data.lengths, low=low, high=high, num=num)

    with staged(profile.model_copy(update={"train": train}), source, device, schedule=schedule) as run:
        begin_anew(run)
        rates, losses, ended = _steps(run, num, tick)
        return judged(rates, losses, ended, device_name(run.device))


def _steps(run: Any, num: int, tick: Callable[[int], Any]) -> tuple[list[float], list[float], str]:
    rates: list[float] = []
    losses: list[float] = []
    first, best = math.inf, math.inf
    with batches_of(run, range(num)) as batches:
        for step in range(num):
            point = point_of(run, run.update(step, batches), {})
            tick(step + 1)
            if point.loss is None:
                continue
            if not math.isfinite(point.loss):
                return rates, losses, f"the loss is not finite at a learning rate of {point.learning_rate:.2g}"
            rates.append(point.learning_rate)
            losses.append(point.loss)
            now = float(np.median(losses[-_NEIGHBOURS:]))  # one bad batch is no blow-up
            first = now if len(losses) == _LEAST_STEPS else first
            best = min(best, now)
            if len(losses) > _LEAST_STEPS and now - best > _BLOWN_UP * max(first - best, 0.1 * abs(best)):
                return rates, losses, f"the loss has blown up at a learning rate of {point.learning_rate:.2g}"
    return rates, losses, "the sweep has reached its last learning rate"


def judged(rates: list[float], losses: list[float], ended: str, device: str = "cpu") -> Sweep:
    """Smooth the losses and suggest a learning rate.

    The suggestion is a tenth of the learning rate at which the smoothed loss is lowest: the warm-up leads there, and
    the last steps before the minimum are already unstable. There is none unless the loss falls by more than its noise.
    """
    values = without_outliers(np.array(losses))
    smoothed = smooth(values, WIDTH * len(losses))
    if len(losses) < _LEAST_STEPS:
        return Sweep(
            rates, losses, smoothed.tolist(), ended, device, None, None, None, ["too few steps with a finite loss"]
        )
    low = int(np.argmin(smoothed))
    slopes = np.gradient(smoothed, np.log(rates))
    steep = int(np.argmin(slopes[: max(low, 1)]))
    noise = 1.4826 * float(np.median(np.abs(values - smoothed)[: max(low, 2)]))
    start = float(np.median(smoothed[: max(2, len(losses) // 20)]))
    per_step = max(1.0, math.sqrt(2 * math.sqrt(math.pi) * WIDTH * len(losses)))
    notes = []
    if start - float(smoothed[low]) <= _FALL * noise / per_step:
        notes.append("the loss does not fall by more than its noise: try more steps (--steps) or a larger batch")
        return Sweep(rates, losses, smoothed.tolist(), ended, device, None, None, None, notes)
    if low >= 0.97 * (len(losses) - 1) and ended.startswith("the sweep"):
        notes.append("the loss is lowest at the end of the sweep: repeat it with a larger --to")
    if steep <= 0.03 * len(losses):
        notes.append("the loss falls from the first steps on: repeat it with a smaller --from")
    suggested = float(rates[low]) / DIVISOR
    return Sweep(
        rates, losses, smoothed.tolist(), ended, device, suggested, float(rates[steep]), float(rates[low]), notes
    )


def without_outliers(values: np.ndarray) -> np.ndarray:
    """Return losses (n,) in which the median of its neighbours replaces one that is far from it: a bad batch."""
    reach = _NEIGHBOURS // 2
    if len(values) <= _NEIGHBOURS:
        return values.astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values.astype(np.float64), reach, "edge"), _NEIGHBOURS)
    middle = np.median(windows, axis=1)
    away = np.abs(values - middle)
    return np.where(away > _OUTLYING * 1.4826 * np.median(away), middle, values)


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Return the means of values (n,) with Gaussian weights of this standard deviation [steps], shape (n,)."""
    width = max(width, 1e-6)
    reach = math.ceil(4 * width)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.pad(values.astype(np.float64), reach)
    known = np.pad(np.ones(len(values)), reach)
    return np.convolve(padded, weights, "valid") / np.convolve(known, weights, "valid")
