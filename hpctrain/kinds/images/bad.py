"""Count and describe pixels that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.images.batch import ImageBatch
    from hpctrain.kinds.images.images import ImageSet


def count_bad(batch: ImageBatch) -> torch.Tensor:
    """Return three sums over a prepared batch, shape (3,), float64, without waiting for the device.

    They count the bad pixels, the images that have some, and the images without weight; padding rows do not count.
    """
    is_empty = ~batch.is_usable & (batch.row != PADDING_ROW)
    return torch.stack([batch.num_bad.sum(), (batch.num_bad > 0).sum(), is_empty.sum()]).double()


def describe_bad(samples: ImageSet, rows: np.ndarray) -> list[str]:
    """Return a line for each of these rows that has bad pixels."""
    batch = samples.read(rows)
    image = batch.image.float().numpy()
    shown = np.ones(image.shape, bool) if batch.mask is None else ~batch.mask.expand(image.shape).numpy()
    kinds = {"NaN": np.isnan(image), "infinite": np.isinf(image)}
    if batch.ivar is not None:
        ivar = batch.ivar.float().numpy()
        kinds = {name: where & (ivar != 0) for name, where in kinds.items()}
        kinds |= {"ivar not finite": ~np.isfinite(ivar), "ivar negative": ivar < 0}
    lines = []
    for index, row in enumerate(rows.tolist()):
        texts = []
        for name, where in kinds.items():
            places = np.argwhere(where[index] & shown[index])
            if len(places):
                band, y, x = places[0].tolist()
                first = f"the first in band {samples.bands[band]} at ({y}, {x})"
                texts.append(f"{name} in {len(places)} pixels, {first}")
        if texts:
            path, number = samples.locate(row)
            lines.append(f"{path}: row {number}, target_id {int(batch.target_id[index])}: {'; '.join(texts)}")
    return lines
