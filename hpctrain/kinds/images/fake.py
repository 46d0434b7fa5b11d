"""A batch of images of any values, for the memory estimate."""

from __future__ import annotations

import torch

from hpctrain.kinds.images.batch import ImageBatch
from hpctrain.kinds.images.facts import ImageFacts


def fake_batch(facts: ImageFacts, num_images: int) -> ImageBatch:
    """Return a prepared batch whose pixels are all 1."""
    shape = (num_images, len(facts.bands), facts.height, facts.width)
    return ImageBatch(
        image=torch.ones(shape),
        weight=torch.ones(shape),
        row=torch.zeros(num_images, dtype=torch.int64),
        target_id=torch.zeros(num_images, dtype=torch.int64),
        num_bad=torch.zeros(num_images, dtype=torch.int32),
        is_usable=torch.ones(num_images, dtype=torch.bool),
    )
