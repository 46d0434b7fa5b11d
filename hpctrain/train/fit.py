"""One step of a model that learns in rounds: step k is k rounds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from hpctrain.distributed.ranks import Ranks
from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.samples.protocols import Batch
from hpctrain.train.reading import read_prepared
from hpctrain.train.schedule import mix
from hpctrain.train.step import StepResult

if TYPE_CHECKING:
    from hpctrain.train.run import Run


class RoundStep:
    """Do the next round, and return its sums as :class:`~hpctrain.train.step.UpdateStep` does.

    Parameters
    ----------
    run : Run
        Its model is a :class:`~hpctrain.families.family.RoundsModel`.
    """

    peers = None
    """A round has no gradient to wait for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # Only a family that shares its rounds knows the argument; any other one learns in one process.
        is_shared = run.family.most_ranks(run.data.section) > 1
        self._more = {"ranks": Ranks(run.world)} if is_shared else {}

    def warm_up(self, empty: Batch) -> None:
        """Do nothing: a round has no first pass that differs from later ones."""

    def __call__(self, step: int, batches: Iterator[Batch]) -> StepResult:
        """Do round `step`; the model reads the samples itself, so `batches` is empty.

        Every rank ends with the same model and the same sums; only the flags have to be summed.
        """
        run = self._run
        run.pacer.rest()
        seed = mix(run.profile.train.seed, step)
        read = functools.partial(read_prepared, run)
        sums = run.model.do_round(step, run.data.train_rows, read, seed, **self._more)
        pace = run.pacer.flags()
        mine = torch.tensor([*run.stop.flags(), pace.hot, pace.critical], dtype=torch.float64)
        flags = sum_over_ranks(run.world, mine).tolist()
        no_gradient, no_scale, is_finite = 0.0, 1.0, 0.0
        bad = dict.fromkeys(run.kind.bad_sums, 0.0)
        values = [*sums.values(), *bad.values(), *flags, no_gradient, no_scale, is_finite]
        return StepResult(step + 1, [*sums, *bad], torch.tensor(values, dtype=torch.float64), None)
