"""Clean, crop, bin and scale images on their device. N images, B bands, H × W pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.images.batch import ImageBatch
    from hpctrain.kinds.images.section import ScaleSection

EIGHT_BITS = 255.0
"""Largest value of an image of 8 bits."""

_FAINTEST = 1e-12
"""Smallest unit of a scaling relative to the largest pixel: a flat image must not be divided by 0."""


def prepare(batch: ImageBatch, scale: ScaleSection, crop: int | None, binning: int) -> ImageBatch:
    """Return a batch with scaled `image` and `weight`, ready for a network.

    Parameters
    ----------
    batch : ImageBatch
        As it was read.
    scale : ScaleSection
    crop : int or None
        Side of the central square to keep.
    binning : int
        Pixels along each axis that are averaged into one, with their weights.
    """
    is_eight_bits = batch.image.dtype == torch.uint8
    image, good, ivar, num_bad = _cleaned(_cropped(batch, crop))
    weight = good.float()
    if binning > 1:
        share = functional.avg_pool2d(weight, binning)
        image = functional.avg_pool2d(image * weight, binning) / share.clamp(min=1e-6)
        # The inverse variance of a mean of n pixels is n times their mean one, up to differences between them.
        ivar = None if ivar is None else functional.avg_pool2d(ivar, binning) * binning**2
        image, weight = torch.where(share > 0, image, 0.0), share
    is_usable = _varies(image, weight)
    weight = torch.where(is_usable[:, None, None, None], weight, 0.0)
    scaled = _scaled(image, weight, ivar, scale, is_eight_bits)
    return batch.replace(
        image=torch.where(weight > 0, scaled, 0.0),
        weight=weight,
        ivar=None,
        mask=None,
        num_bad=num_bad,
        is_usable=is_usable,
    )


def _cropped(batch: ImageBatch, side: int | None) -> ImageBatch:
    if side is None:
        return batch
    top, left = (batch.image.shape[2] - side) // 2, (batch.image.shape[3] - side) // 2

    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[..., top : top + side, left : left + side]

    return batch.replace(image=cut(batch.image), ivar=cut(batch.ivar), mask=cut(batch.mask))


def _cleaned(batch: ImageBatch) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return image, which pixels exist, ivar (both 0 where they do not), and the number of bad pixels of each image."""
    image = batch.image.float()
    finite = torch.isfinite(image)
    good, bad, ivar = finite, ~finite, None
    if batch.ivar is not None:
        ivar = batch.ivar.float()
        has_weight = (ivar > 0) & (ivar < math.inf)  # NaN is neither
        bad = (ivar != 0) & ~(finite & has_weight)
        good = finite & has_weight
    if batch.mask is not None:
        good, bad = good & ~batch.mask, bad & ~batch.mask
    padding = (batch.row == PADDING_ROW)[:, None, None, None]
    good, bad = good & ~padding, bad & ~padding
    num_bad = bad.sum(dim=(1, 2, 3), dtype=torch.int32)
    ivar = None if ivar is None else torch.where(good, ivar, 0.0)
    return torch.where(good, image, 0.0).contiguous(), good, ivar, num_bad


def _varies(image: Tensor, weight: Tensor) -> Tensor:
    """Return whether the pixels of an image that exist differ from each other, (N,), bool."""
    exists = weight > 0
    highest = torch.where(exists, image, -math.inf).amax(dim=(1, 2, 3))
    lowest = torch.where(exists, image, math.inf).amin(dim=(1, 2, 3))
    return highest > lowest  # without pixels: -inf > inf


def _scaled(image: Tensor, weight: Tensor, ivar: Tensor | None, scale: ScaleSection, is_eight_bits: bool) -> Tensor:
    by, unit = scale.by, scale.unit
    if by == "auto":
        by, unit = ("linear", EIGHT_BITS) if is_eight_bits else ("asinh", unit)
    if unit == "noise":
        divisor = _noise(image, weight, ivar)
        largest = image.abs().amax(dim=(2, 3), keepdim=True)
        divisor = torch.where(divisor > _FAINTEST * largest, divisor, largest.clamp(min=1e-30))
        image = image / (divisor * scale.softening)
    else:
        image = image / (unit * scale.softening)
    if by == "linear":
        return image
    return torch.asinh(image) if by == "asinh" else lupton(image)


def lupton(image: Tensor) -> Tensor:
    """Return images (N, B, H, W) times arcsinh(I) / I, where I is the mean of the bands, so that colours are kept.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483, with m = 0, and Q in the unit of the image.
    """
    mean = image.mean(dim=1, keepdim=True)
    is_tiny = mean.abs() < 1e-4  # arcsinh(I) / I = 1 - I²/6
    safe = torch.where(is_tiny, 1.0, mean)
    return image * torch.where(is_tiny, 1.0, torch.asinh(safe) / safe)


def _noise(image: Tensor, weight: Tensor, ivar: Tensor | None) -> Tensor:
    """Return the standard deviation of a typical pixel of each band of each image, (N, B, 1, 1)."""
    exists = (weight > 0).flatten(2)
    if ivar is not None:
        middle = _masked_median(ivar.flatten(2), exists & (ivar.flatten(2) > 0))
        return torch.where(middle > 0, middle, 1.0).rsqrt()[..., None, None]
    values = image.flatten(2)
    centre = _masked_median(values, exists)
    spread = 1.4826 * _masked_median((values - centre[..., None]).abs(), exists)
    return spread[..., None, None]


def _masked_median(values: Tensor, exists: Tensor) -> Tensor:
    """Return the lower median of the values (N, B, P) that exist, (N, B); 0 where there are none."""
    ordered = torch.where(exists, values, math.inf).sort(dim=-1).values
    count = exists.sum(dim=-1, keepdim=True)
    middle = ordered.gather(-1, ((count - 1) // 2).clamp(min=0))
    return torch.where(count > 0, middle, 0.0)[..., 0]
