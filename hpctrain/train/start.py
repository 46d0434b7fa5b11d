"""The weights of a run that begins without a checkpoint."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.distributed.group import broadcast_number
from hpctrain.distributed.reduce import broadcast_tensors
from hpctrain.errors import DataError
from hpctrain.families.family import TrainingSamples
from hpctrain.families.store import load_weights
from hpctrain.train.reading import read_prepared
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.run import Run

_DONE, _WORKING, _FAILED = range(3)

_SEED = 0x57A7
"""Makes the seed of a start differ from those of weights, steps and evaluations."""


def begin_anew(run: Run) -> None:
    """Set the weights that a run without a whole checkpoint starts from: those of another run, or the family's start.

    Raises
    ------
    CheckpointError
        The weights of ``train.init_from`` are missing, damaged, or of another network.
    DataError
        The training samples do not serve for the family's start.
    """
    if run.profile.train.init_from is not None:
        load_weights(run.model, Path(run.profile.train.init_from))
    elif run.learns_by_gradient and run.family.has_start(run.data.section):
        _start_together(run)
    else:
        return
    if run.averaged is not None:
        for name, parameter in run.model.named_parameters():
            if name in run.averaged:
                run.averaged[name].copy_(parameter.detach())


def _start_together(run: Run) -> None:
    """Let rank 0 compute the start and send it, so that all ranks have the same bits.

    The others hear of each piece of work, so that their watchdogs know that rank 0 is alive.
    """
    if not run.world.is_main:
        while (state := broadcast_number(run.world, _DONE)) == _WORKING:
            run.watchdog.progress()
        if state == _FAILED:
            raise DataError("the first weights cannot be computed from the training samples; see the message of rank 0")
    else:
        samples = TrainingSamples(
            rows=run.data.train_rows,
            read=functools.partial(read_prepared, run),
            prepare=run.prepare,
            device=run.device,
            seed=mix(run.profile.train.seed, _SEED),
        )
        state = _FAILED
        try:
            for _ in run.family.start(run.model, run.data.section, samples):
                broadcast_number(run.world, _WORKING)
                run.watchdog.progress()
            state = _DONE
        finally:
            broadcast_number(run.world, state)
    broadcast_tensors(run.world, list(run.model.state_dict().values()))
