"""The loss on the held-out samples, without dropout or augmentation, the same for any number of ranks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.families.predictions import predict
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.protocols import PADDING_ROW, Batch
from hpctrain.train.arithmetic import AUTOCAST
from hpctrain.train.counts import bad_fields, num_bad
from hpctrain.train.culprits import raise_bad_values
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.run import Run

_DRAWS = 0xE7A1
"""Makes the random numbers of evaluations differ from those of training steps."""


@contextlib.contextmanager
def evaluated_weights(run: Run) -> Iterator[Any]:
    """Put the model into evaluation mode, with the averaged weights where the run keeps them."""
    if not run.learns_by_gradient:
        yield run.model
        return
    live = {}
    if run.averaged is not None:
        for name, parameter in run.model.named_parameters():
            if name in run.averaged:
                live[name] = parameter.data
                parameter.data = run.averaged[name]
    run.model.eval()
    try:
        yield run.model
    finally:
        run.model.train()
        for name, parameter in run.model.named_parameters():
            if name in live:
                parameter.data = live[name]


@torch.no_grad()
def evaluate(run: Run) -> dict[str, Any] | None:
    """Return the metrics of the held-out split, summed over ranks and then divided.

    Returns
    -------
    dict or None
        The metrics of the family, the number of samples and ``seconds``. None if no held-out sample has weight: that
        does not count as an evaluation.
    """
    started = time.perf_counter()
    size, world, data = run.schedule.micro_batch, run.world, run.profile.data
    rows = run.data.validation_rows
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    mine = [_padded(chunk, size) for chunk in chunks[world.rank :: world.world_size]]
    totals: torch.Tensor | None = None
    names: list[str] = []
    with evaluated_weights(run) as model:
        # A rank without a chunk still takes part in the sum, so every rank computes at least one (empty) chunk.
        requests = mine or [np.full(size, PADDING_ROW, dtype=np.int64)]
        batches = read_ahead(run.data.samples, requests, run.profile.reader_threads, data.prefetch_batches)
        with contextlib.closing(batches):
            for index, batch in enumerate(batches):
                run.pacer.rest()
                # Random numbers are drawn as in training, so that the losses compare; they depend on the chunk alone.
                seed = mix(run.profile.train.seed, _DRAWS, world.rank + index * world.world_size)
                seed_random_numbers(run.device, seed)
                batch = run.prepare(batch.to(run.device))
                sums = _scores(run, model, batch)
                run.watchdog.progress()
                names = [*sums, *run.kind.bad_sums]
                packed = torch.cat(
                    [torch.stack([value.double() for value in sums.values()]), run.kind.count_bad(batch)]
                )
                totals = packed if totals is None else totals + packed
    assert totals is not None
    summed = dict(zip(names, sum_over_ranks(world, totals).tolist(), strict=True))
    if num_bad(run.kind, summed) and data.refuses_bad_values:
        raise_bad_values(run, f"evaluation at step {run.progress.step}", np.concatenate(requests))
    if summed["weight_sum"] == 0:
        return None
    return {
        **run.model.metrics(summed),
        **bad_fields(run.kind, summed),
        run.kind.words.count_field: int(summed.get("num_samples", len(rows))),
        "seconds": round(time.perf_counter() - started, 4),
    }


def _scores(run: Run, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the sums of one batch."""
    if not run.learns_by_gradient:
        return {name: torch.as_tensor(value, device=run.device) for name, value in model.score(batch).items()}
    dtype = AUTOCAST.get(run.profile.train.precision)
    with torch.autocast(run.device.type, dtype=dtype, enabled=dtype is not None):
        return model(batch, run.schedule.total_steps)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Fill a short last chunk with padding rows, so that all forward passes have one shape, as torch.compile needs."""
    return np.concatenate([rows, np.full(size - len(rows), PADDING_ROW, dtype=np.int64)])


@torch.no_grad()
def sketch(run: Run, rows: np.ndarray) -> dict[str, np.ndarray] | None:
    """Return the arrays with which the family shows how the model does on these rows (n,); None if it shows none."""
    batch = run.prepare(run.data.samples.read(rows).to(run.device))
    with evaluated_weights(run) as model:
        return run.family.sketch(model, batch, run.progress.step)


def predictions(run: Run, model: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns that a model in evaluation mode predicts for these rows (n,)."""
    return predict(model, run.prepare(run.data.samples.read(rows).to(run.device)))
