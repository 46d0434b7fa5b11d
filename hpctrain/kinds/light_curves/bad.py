"""Points that cannot be used: count them in a batch, and describe them.

A point is bad where its time or value is not finite, or its error is not a finite number above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.batch import LightCurveBatch
    from hpctrain.kinds.light_curves.samples import LightCurveSamples


def count_bad(batch: LightCurveBatch) -> torch.Tensor:
    """Return three sums over a prepared batch, shape (3,), float64.

    They count the bad points, the curves with such points, and the curves without points. Padding rows do not count.
    """
    num_bad = batch["num_bad"]
    empty = ~batch.exists.any(dim=1) & ~batch.is_padding
    return torch.stack([num_bad.sum(), (num_bad > 0).sum(), empty.sum()]).double()


def describe_bad(samples: LightCurveSamples, rows: np.ndarray) -> list[str]:
    """Return a line for each of these rows that has bad points: file, row, object, values."""
    batch = samples.read(rows)
    exists = batch.exists.numpy()
    lines = []
    for index, row in enumerate(rows.tolist()):
        time, value, error = (batch[name][index].numpy() for name in ("time", "value", "error"))
        kinds = {
            "time not finite": ~np.isfinite(time),
            "value not finite": ~np.isfinite(value),
            "error not finite": ~np.isfinite(error),
            "error not above 0": error <= 0,
        }
        texts = []
        for name, where in kinds.items():
            at = np.flatnonzero(where & exists[index])
            if at.size:
                texts.append(f"{name} in " + (f"point {at[0]}" if at.size == 1 else f"{at.size} points, first {at[0]}"))
        if texts:
            path, number = samples.locate(row)
            lines.append(f"{path}: row {number}, target_id {samples.target_id[row]}: {'; '.join(texts)}")
    return lines
