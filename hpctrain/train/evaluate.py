"""The loss on the held-out spectra, without dropout or augmentation, the same for any number of ranks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.files import NewFile
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.rundir import RunDir
from hpctrain.samples.loader import read_ahead
from hpctrain.train.badpixels import BAD_SUMS, bad_fields, count_bad, raise_bad_pixels
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.build import Run

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}

_DRAWS = 0xE7A1
"""Makes the random numbers of evaluations differ from those of training steps."""


@contextlib.contextmanager
def evaluated_weights(run: Run) -> Iterator[torch.nn.Module]:
    """Put the network into evaluation mode, with the averaged weights where the run keeps them."""
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
        ``loss`` and the other metrics of the family, ``num_spectra`` and ``seconds``. None if no held-out spectrum has
        weight: that does not count as an evaluation.
    """
    started = time.perf_counter()
    size, world = run.schedule.micro_batch, run.world
    rows = run.spectra.validation_rows
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    mine = [_padded(chunk, size) for chunk in chunks[world.rank :: world.world_size]]
    dtype = _AUTOCAST.get(run.profile.train.precision)
    totals: torch.Tensor | None = None
    names: list[str] = []
    with evaluated_weights(run) as model:
        # A rank without a chunk still takes part in the sum, so every rank computes at least one (empty) chunk.
        requests = mine or [np.full(size, -1, dtype=np.int64)]
        data = run.profile.data
        batches = read_ahead(run.spectra.source, requests, run.profile.reader_threads, data.prefetch_batches)
        with contextlib.closing(batches):
            for index, batch in enumerate(batches):
                run.pacer.rest()
                # Latents are drawn as in training, so that the losses compare; the draw depends on the chunk alone.
                seed = mix(run.profile.train.seed, _DRAWS, world.rank + index * world.world_size)
                seed_random_numbers(run.device, seed)
                batch = normalise(batch.to(run.device), data.normalise)
                with torch.autocast(run.device.type, dtype=dtype, enabled=dtype is not None):
                    sums = model(batch, run.schedule.total_steps)
                run.watchdog.progress()
                names = [*sums, *BAD_SUMS]
                packed = torch.cat([torch.stack([value.double() for value in sums.values()]), count_bad(batch)])
                totals = packed if totals is None else totals + packed
    assert totals is not None
    summed = dict(zip(names, sum_over_ranks(world, totals).tolist(), strict=True))
    if summed["bad_pixels"] and data.bad_pixels == "error":
        raise_bad_pixels(run, f"evaluation at step {run.progress.step}", np.concatenate(requests))
    if summed["weight_sum"] == 0:
        return None
    return {
        **run.model.metrics(summed),
        **bad_fields(summed),
        "num_spectra": int(summed.get("num_spectra", len(rows))),
        "seconds": round(time.perf_counter() - started, 4),
    }


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Fill a short last chunk with padding rows, so that all forward passes have one shape, as torch.compile needs."""
    return np.concatenate([rows, np.full(size - len(rows), -1, dtype=np.int64)])


@torch.no_grad()
def reconstructions(run: Run, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return spectra and their reconstructions, as the arrays that the report and TensorBoard draw.

    Parameters
    ----------
    run : Run
    rows : ndarray of int64, shape (n,)
        Rows of the data set.

    Returns
    -------
    dict
        ``wavelength_aa`` (L,) or (n, L) [AA]; ``flux``, ``ivar``, ``reconstruction``, ``covered`` (n, L), normalised;
        ``target_id``, ``redshift``, ``chi2`` (reduced), ``norm`` (n,); ``step``.
    """
    batch = normalise(run.spectra.source.read(rows).to(run.device), run.profile.data.normalise)
    with evaluated_weights(run) as model:
        reconstruction, covered = model.reconstruct(batch)
    weight = torch.where(covered, batch.ivar, torch.zeros_like(batch.ivar))
    valid = (weight > 0).sum(1)
    chi2 = (weight * (batch.flux - reconstruction).square()).sum(1) / valid.clamp(min=1)
    arrays = {
        "wavelength_aa": batch.wavelength_aa,
        "flux": batch.flux,
        "ivar": batch.ivar,
        "reconstruction": reconstruction.float(),
        "covered": covered,
        "target_id": batch.target_id,
        "redshift": batch.redshift,
        "chi2": torch.where(valid > 0, chi2, torch.full_like(chi2, torch.nan)),
        "norm": batch.norm,
    }
    return {name: value.cpu().numpy() for name, value in arrays.items()} | {"step": np.int64(run.progress.step)}


def write_arrays(run: RunDir, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write ``results/<name>.npz`` whole or not at all."""
    run.results.mkdir(exist_ok=True)
    with NewFile(run.results / f"{name}.npz", durable=False, replace_folders=True) as new:
        np.savez_compressed(new.stream, **arrays)
