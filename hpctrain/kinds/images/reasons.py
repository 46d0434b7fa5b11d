"""Why an image carries no weight in training. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hpctrain.kinds.images.images import ImageSet

MASKED, FLAT, OUTSIDE = "fully masked", "all pixels have the same value", "nothing within the crop"
REMEDIES = {
    MASKED: "check data.columns.ivar, data.columns.mask and data.mask_marks",
    FLAT: "take these images out of the files: they show nothing",
    OUTSIDE: "check data.crop",
}
"""What to do about each reason."""


def reasons(samples: ImageSet, rows: np.ndarray) -> list[str]:
    """Return, for each of these rows (n,) without weight in training, the reason."""
    batch = samples.read(rows)
    image = batch.image.float().numpy()
    exists = np.isfinite(image)
    if batch.ivar is not None:
        exists &= batch.ivar.float().numpy() > 0
    if batch.mask is not None:
        exists &= ~batch.mask.numpy()
    found = []
    for values, there in zip(image, exists, strict=True):
        seen = values[there]
        is_flat = seen.size and seen.min() == seen.max()
        found.append(MASKED if not seen.size else FLAT if is_flat else OUTSIDE)
    return found
