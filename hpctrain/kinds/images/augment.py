"""Flip, rotate and shift training images by random numbers that no other image of the batch changes. N images.

The trainer seeds torch for each micro-batch with a hash of the seed of the run, the step and the number of the
micro-batch, and an epoch shows each row once. Here that seed and the row are hashed to 64 bits for each image. So an
image is changed in the same way whatever rank or device computes it, and in a resumed run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hpctrain.kinds.images.batch import ImageBatch
    from hpctrain.kinds.images.section import ImageAugmentSection

_STEPS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
"""Shifts and factors of SplitMix64, as signed numbers; see :func:`hpctrain.samples.hashing.mix64`."""

_INCREMENT = -0x61C8864680B583EB


def random_bits(rows: Tensor, seed: int) -> Tensor:
    """Return 64 random-looking bits for each row.

    Parameters
    ----------
    rows : Tensor, shape (N,), int64
    seed : int

    Returns
    -------
    Tensor, shape (N,), int64
        The same on every device: integers wrap around.
    """
    return _mix(_mix(rows) ^ _signed(seed))


def augment(batch: ImageBatch, section: ImageAugmentSection) -> ImageBatch:
    """Change prepared images at random; whole pixels move, and no value is interpolated.

    Parameters
    ----------
    batch : ImageBatch
        Prepared.
    section : ImageAugmentSection
    """
    if not (section.flip or section.rotate or section.shift):
        return batch
    bits = random_bits(batch.row, torch.initial_seed())
    height, width = batch.image.shape[2:]
    y = torch.arange(height, device=bits.device)[None, :, None].expand(len(batch), height, width)
    x = torch.arange(width, device=bits.device)[None, None, :].expand(len(batch), height, width)
    inside = None
    if section.shift:
        y, x = y - _shift(bits, 8, section.shift), x - _shift(bits, 24, section.shift)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    if section.rotate:
        y, x = _rotated(y, x, height, _bit(bits, 0), _bit(bits, 1))
    if section.flip:
        x = torch.where(_bit(bits, 2), width - 1 - x, x)
        if not section.rotate:
            y = torch.where(_bit(bits, 3), height - 1 - y, y)
    source = (y * width + x).flatten(1)[:, None, :]

    def moved(values: Tensor) -> Tensor:
        found = values.flatten(2).gather(2, source.expand(-1, values.shape[1], -1)).reshape(values.shape)
        return found if inside is None else torch.where(inside[:, None], found, 0.0)

    assert batch.weight is not None, "only prepared images are augmented"
    return batch.replace(image=moved(batch.image), weight=moved(batch.weight))


def _rotated(y: Tensor, x: Tensor, side: int, quarter: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel comes from after a rotation by 90° where `quarter`, and by 180° more where `half`."""
    y, x = torch.where(quarter, x, y), torch.where(quarter, side - 1 - y, x)
    return torch.where(half, side - 1 - y, y), torch.where(half, side - 1 - x, x)


def _bit(bits: Tensor, number: int) -> Tensor:
    return ((bits >> number) & 1).bool()[:, None, None]


def _shift(bits: Tensor, first: int, largest: int) -> Tensor:
    """Return whole numbers from -largest to largest from 16 of the bits."""
    return (((bits >> first) & 0xFFFF) % (2 * largest + 1) - largest)[:, None, None]


def _mix(value: Tensor) -> Tensor:
    value = value + _INCREMENT
    for shift, factor in _STEPS:
        value = (value ^ _logical_shift(value, shift)) * factor
    return value ^ _logical_shift(value, 31)


def _logical_shift(value: Tensor, shift: int) -> Tensor:
    return (value >> shift) & ((1 << (64 - shift)) - 1)  # >> of a negative number fills with ones


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
