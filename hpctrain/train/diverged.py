"""When a loss or gradient is not finite: report the step, name the objects, and exit with code 6."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from hpctrain.distributed.group import barrier
from hpctrain.errors import DivergedError
from hpctrain.kinds.spectra.transform import augment, normalise
from hpctrain.rundir import read_json, write_json
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.build import Run
    from hpctrain.train.step import StepResult

_LISTED = 10


def raise_diverged(run: Run, result: StepResult) -> NoReturn:
    """Find the objects that make a step not finite, and raise.

    That step did not change the weights, so the micro-batches can be computed again, one object at a time. All ranks
    call this at the same boundary; each searches its own micro-batches.

    Raises
    ------
    DivergedError
        Always.
    """
    step, world = result.step, run.world
    culprits, others = _search(run, step - 1)
    write_json(run.directory.logs / f"diverged-rank-{world.rank:04d}.json", {"culprits": culprits, "others": others})
    barrier(world)
    found = [read_json(run.directory.logs / f"diverged-rank-{rank:04d}.json") for rank in range(world.world_size)]
    # A batch that spans two epochs may hold an object twice.
    culprits = sorted({target for part in found for target in part["culprits"]})
    others = sorted({target for part in found for target in part["others"]} - set(culprits))
    what = "loss" if not math.isfinite(result.sums["loss_sum"]) else "gradient"
    if run.metrics is not None:
        run.metrics.event("diverged", step, quantity=what, objects=culprits, batch=culprits + others)
    if culprits:
        blame = (
            f"The non-finite value is reproduced by these objects alone: target_id {_listed(culprits)}; look at their "
            "flux and ivar"
        )
    else:
        blame = (
            f"No single object of the batch reproduces it (target_id {_listed(others)}); lower train.learning_rate or "
            "train.clip_norm, or use bf16 or fp32"
        )
    raise DivergedError(
        f"step {step}: the {what} is not finite (learning rate {run.schedule.learning_rate(step - 1):.3g}). {blame}. "
        f"The newest checkpoint is older; the event 'diverged' of {run.directory.metrics} lists all objects"
    )


def _listed(targets: list[int]) -> str:
    more = f" and {len(targets) - _LISTED} more" if len(targets) > _LISTED else ""
    return ", ".join(map(str, targets[:_LISTED])) + more


def _search(run: Run, step: int) -> tuple[list[int], list[int]]:
    """Return the objects of this rank's micro-batches whose loss or gradient alone is not finite, and the others."""
    schedule, world = run.schedule, run.world
    culprits: list[int] = []
    others: list[int] = []
    for micro in range(world.rank, schedule.num_micro_batches, world.world_size):
        samples = schedule.samples(step, micro)
        rows = run.spectra.train_rows[samples[samples >= 0]]
        for row in rows:
            target = int(run.spectra.source.target_id[row])
            (others if _is_finite(run, step, micro, row) else culprits).append(target)
    return culprits, others


def _is_finite(run: Run, step: int, micro: int, row: int) -> bool:
    seed_random_numbers(run.device, mix(run.profile.train.seed, step, micro))
    batch = normalise(run.spectra.source.read(np.array([row])).to(run.device), run.profile.data.normalise)
    batch = augment(batch, run.profile.data.augment)
    run.model.zero_grad(set_to_none=True)
    loss = run.model(batch, step)["loss_sum"]
    if not torch.isfinite(loss):
        return False
    loss.backward()
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
