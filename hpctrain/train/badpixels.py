"""Count pixels whose flux or ivar cannot be used with the sums of each step, or name them and end the run.

A pixel is bad where its flux is NaN or infinite although it has weight, or its ivar is negative, NaN or infinite. A
pixel with a mask bit, ivar 0 or padding is not bad: files mask pixels in this way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from hpctrain.distributed.group import barrier
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.rundir import read_json, write_json
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.train.build import Run

BAD_SUMS = ("bad_pixels", "bad_spectra", "empty_spectra")
"""Names of the sums that :func:`count_bad` returns."""

_LISTED = 10


def count_bad(batch: SpectraBatch) -> torch.Tensor:
    """Return three sums over a cleaned batch, shape (3,), float64, without waiting for the device.

    They count the bad pixels, which lost their weight; the spectra with such pixels; and the fully masked spectra.
    Padding rows do not count.
    """
    return torch.stack(
        [
            batch.num_bad.sum(),
            (batch.num_bad > 0).sum(),
            (~batch.has_weight & (batch.row != PADDING_ROW)).sum(),
        ]
    ).double()


def bad_fields(sums: Mapping[str, float]) -> dict[str, int]:
    """Return the counts that are not 0, with the names of ``metrics.jsonl``."""
    return {f"num_{name}": round(sums[name]) for name in BAD_SUMS if sums.get(name)}


class BadPixelTally:
    """Counts over the steps of one attempt."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(BAD_SUMS, 0.0)
        self._num_spectra = 0

    def add(self, sums: Mapping[str, float], num_spectra: int) -> bool:
        """Add the counts of one step; return whether these are the first bad pixels of the attempt."""
        is_first = not self._sums["bad_pixels"] and sums["bad_pixels"] > 0
        for name in BAD_SUMS:
            self._sums[name] += sums[name]
        self._num_spectra += num_spectra
        return is_first

    def fields(self) -> dict[str, int]:
        """Return the counts for an event; empty if nothing was bad or fully masked."""
        counts = bad_fields(self._sums)
        return {**counts, "num_spectra": self._num_spectra} if counts else {}


def raise_bad_pixels(run: Run, when: str, rows: np.ndarray) -> NoReturn:
    """Find the bad pixels among the rows of this rank, gather those of all ranks, and raise.

    Parameters
    ----------
    run : Run
    when : str
        The step or evaluation that found them, for the message.
    rows : ndarray, int64
        Rows of the set that this rank read for it; -1 is skipped. All ranks call this at the same boundary.

    Raises
    ------
    DataError
        Always; the message gives file, row, target id and the bad values.
    """
    world = run.world
    size = run.schedule.micro_batch
    rows = np.unique(rows[rows != PADDING_ROW])
    found = [
        text for start in range(0, len(rows), size) for text in describe_bad(run.spectra.source, rows[start:][:size])
    ]
    write_json(run.directory.logs / f"bad-pixels-rank-{world.rank:04d}.json", {"spectra": found})
    barrier(world)
    all_found = [
        text
        for rank in range(world.world_size)
        for text in read_json(run.directory.logs / f"bad-pixels-rank-{rank:04d}.json")["spectra"]
    ]
    more = [f"... and {len(all_found) - _LISTED} more spectra"] if len(all_found) > _LISTED else []
    raise DataError(
        "\n  ".join(
            [
                f"{when}: {len(all_found)} spectra with bad pixels, and data.bad_pixels is error; repair them, or set "
                "data.bad_pixels: mask, which gives these pixels no weight. No checkpoint holds this step",
                *all_found[:_LISTED],
                *more,
            ]
        )
    )


def describe_bad(source: Any, rows: np.ndarray) -> list[str]:
    """Return a line for each of these rows of a set of spectra that has bad pixels."""
    batch = source.read(rows)
    flux, ivar = batch.flux.float().numpy(), batch.ivar.float().numpy()
    bad = (ivar != 0) & ~(np.isfinite(flux) & (ivar > 0) & (ivar < math.inf))
    lines = []
    for index in np.flatnonzero(bad.any(axis=1)):
        path, row = source.locate(int(rows[index]))
        kinds = {
            "flux NaN": np.isnan(flux[index]),
            "flux infinite": np.isinf(flux[index]),
            "ivar NaN": np.isnan(ivar[index]),
            "ivar infinite": np.isinf(ivar[index]),
            "ivar negative": (ivar[index] < 0) & np.isfinite(ivar[index]),
        }
        texts = []
        for name, where in kinds.items():
            pixels = np.flatnonzero(where & bad[index])
            if pixels.size:
                first = f"pixel {pixels[0]}" if pixels.size == 1 else f"{pixels.size} pixels, the first {pixels[0]}"
                texts.append(f"{name} in {first}")
        lines.append(f"{path}: row {row}, target_id {int(batch.target_id[index])}: {'; '.join(texts)}")
    return lines
