"""Everything in a run that depends only on the step: its spectra, random numbers and learning rate.

A step is one update of the weights; step k means that k updates are done. Nothing here has state, so a resume is exact
and costs nothing. The world size decides only which rank computes a micro-batch, never which spectra are in it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.families import family_of
from hpctrain.profile.length import num_steps
from hpctrain.profile.schema import Profile
from hpctrain.samples.order import BucketedOrder, WindowedOrder, sample_order

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Schedule:
    """The contents of each step of a run.

    Parameters
    ----------
    profile : Profile
    num_train : int
        Number of training spectra.
    blocks : ndarray of int64, optional
        Index of the first training spectrum of each block that has to be read as a whole. None where every spectrum can
        be read on its own; the order is then an exact shuffle.
    lengths : ndarray of int64, shape (num_train,), optional
        Length of each training sample, where those of similar length share a micro-batch.
    """

    profile: Profile
    num_train: int
    blocks: np.ndarray | None = None
    lengths: np.ndarray | None = None

    @functools.cached_property
    def order(self) -> Callable[[np.ndarray], np.ndarray]:
        """The training spectrum at each position of the run."""
        seed = self.profile.train.seed
        if self.lengths is not None:
            return BucketedOrder(seed, self.lengths, self.micro_batch, self.profile.data.sorted_batches)
        if self.blocks is None:
            return functools.partial(sample_order, seed, self.num_train)
        return WindowedOrder(seed, self.num_train, self.blocks, self.profile.data.shuffle_window)

    @functools.cached_property
    def order_name(self) -> str:
        """Name of the order; two attempts with the same name see the same spectra in the same order."""
        if self.lengths is not None:
            lengths = hashlib.sha256(self.lengths.astype("<i8").tobytes()).hexdigest()[:16]
            batches = f"{self.profile.data.sorted_batches} batches of {self.micro_batch}"
            return f"sorted by length within {batches} ({lengths})"
        if self.blocks is None:
            return "exact"
        blocks = hashlib.sha256(self.blocks.astype("<i8").tobytes()).hexdigest()[:16]
        return f"windows of {self.profile.data.shuffle_window} spectra from {len(self.blocks)} blocks ({blocks})"

    @functools.cached_property
    def micro_batch(self) -> int:
        """Number of spectra in one forward pass."""
        return self.profile.train.batch_size

    @functools.cached_property
    def global_batch(self) -> int:
        """Number of spectra per step; the profile fixes it for any world size."""
        return self.profile.global_batch

    @property
    def num_micro_batches(self) -> int:
        """Number of micro-batches per step, over all ranks."""
        return self.global_batch // self.micro_batch

    @functools.cached_property
    def num_samples(self) -> int:
        """Number of spectra that the whole run reads, counted again in each epoch."""
        return self.profile.train.epochs * self.num_train

    @functools.cached_property
    def total_steps(self) -> int:
        """Number of steps of the whole run. The last batch may be smaller; no spectrum is left out or read twice."""
        return num_steps(self.profile, self.num_train)

    @functools.cached_property
    def warmup_steps(self) -> int:
        """Number of steps in which the learning rate rises to its peak."""
        return self.profile.train.warmup(self.total_steps)

    @functools.cached_property
    def steps_per_epoch(self) -> float:
        """Number of steps in which every training spectrum is read once."""
        return self.num_train / self.global_batch

    def samples_seen(self, step: int) -> int:
        """Number of spectra seen after `step` steps."""
        return min(step * self.global_batch, self.num_samples)

    def accumulation(self, world_size: int) -> int:
        """Return the number of micro-batches that each rank computes per step.

        Raises
        ------
        ProfileError
            The micro-batches of a step cannot be divided evenly among the ranks.
        """
        if self.num_micro_batches % world_size:
            fitting = [str(n) for n in range(1, self.num_micro_batches + 1) if self.num_micro_batches % n == 0]
            message = (
                f"a step has {self.num_micro_batches} micro-batches of {self.micro_batch} spectra, which "
                f"{world_size} ranks cannot share evenly; start {', '.join(fitting[:12])} ranks, or change the profile"
            )
            raise ProfileError("launch", [Problem("train.accumulation", message)])
        return self.num_micro_batches // world_size

    def samples(self, step: int, micro: int) -> np.ndarray:
        """Return the training-set indices of a micro-batch, shape (B,), int64; -1 is padding at the end of the run."""
        return self.samples_of(range(step, step + 1), range(micro, micro + 1))[0]

    def samples_of(self, steps: range, micros: range) -> np.ndarray:
        """Return the samples of several steps at once.

        Parameters
        ----------
        steps : range
            Numbers of the steps; k is the step from k to k + 1.
        micros : range
            Micro-batches of each step.

        Returns
        -------
        ndarray, shape (len(steps) * len(micros), B), int64
            Indices into the training set, micro-batch by micro-batch; -1 past the end of the run.
        """
        first = np.array(steps)[:, None] * self.global_batch + np.array(micros) * self.micro_batch
        positions = first.reshape(-1, 1) + np.arange(self.micro_batch, dtype=np.int64)
        samples = np.full_like(positions, -1)
        inside = positions < self.num_samples
        samples[inside] = self.order(positions[inside])
        return samples

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the step from `step` to ``step + 1``: linear warm-up, then a cosine."""
        train = self.profile.train
        if step < self.warmup_steps:
            return train.learning_rate * (step + 1) / self.warmup_steps
        span = max(1, self.total_steps - self.warmup_steps)
        share = min(1.0, (step - self.warmup_steps) / span)
        floor = train.final_learning_rate
        return floor + (train.learning_rate - floor) * 0.5 * (1.0 + math.cos(math.pi * share))

    def evaluation_due(self, step: int) -> bool:
        """Return whether the held-out spectra are evaluated after `step` steps; always after the last."""
        if step == 0:
            return False
        if step == self.total_steps:
            return True
        every = self.profile.train.evaluate_every_steps
        if every is not None:
            return step % every == 0
        return int(step / self.steps_per_epoch) > int((step - 1) / self.steps_per_epoch)

    def figure_due(self, step: int) -> bool:
        """Return whether reconstructions are drawn at the evaluation after `step` steps."""
        every = self.profile.track.figure_every_steps
        if every is None or not self.evaluation_due(step):
            return False
        previous = step - 1
        while previous > 0 and not self.evaluation_due(previous):
            previous -= 1
        return step == self.total_steps or step // every > previous // every

    def record_due(self, step: int) -> bool:
        """Return whether the numbers of a step, which made `step` updates, are recorded; the first and the last are."""
        return step % self.profile.train.log_every_steps == 0 or step in (1, self.total_steps)

    def checkpoint_due(self, step: int) -> bool:
        """Return whether the state is saved after `step` steps; always after the last."""
        return step > 0 and (step % self.profile.checkpoint.every_steps == 0 or step == self.total_steps)


class RoundsSchedule(Schedule):
    """The schedule of a model that learns in rounds: each step reads all training samples."""

    @functools.cached_property
    def global_batch(self) -> int:
        return self.num_train

    @property
    def num_micro_batches(self) -> int:
        return 1

    @functools.cached_property
    def num_samples(self) -> int:
        return self.total_steps * self.num_train

    def accumulation(self, world_size: int) -> int:
        return 1

    def learning_rate(self, step: int) -> float:
        """Return 0: there is no learning rate."""
        return 0.0


def schedule_of(
    profile: Profile, num_train: int, blocks: np.ndarray | None = None, lengths: np.ndarray | None = None
) -> Schedule:
    """Return the schedule for the way in which the profile's family learns; see :class:`Schedule`."""
    schedule = Schedule if family_of(profile).how == "gradient" else RoundsSchedule
    return schedule(profile, num_train, blocks, lengths)


def mix(*numbers: int) -> int:
    """Hash integers to one integer of 63 bits (splitmix64), so that seeds are unrelated to each other.

    References
    ----------
    .. [1] Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA.
    """
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
