"""A residual network over images that skips masked pixels, and labels from the features it finds.

Legend: N images, B bands, H × W pixels, C channels, F features.

::

    image, weight ─▶ convolution ─▶ stages of residual blocks (C) ─▶ mean and largest value over the image (2 C)
                                                                             └─▶ perceptron (F) ─▶ labels
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hpctrain.families.labels.network import LabelNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpctrain.families.image_cnn.section import ImageCNNSection
    from hpctrain.kinds.images.batch import ImageBatch
    from hpctrain.kinds.images.facts import ImageFacts

CHANNELS_PER_GROUP = 8
"""Channels that a group normalisation takes together; fewer where the number of channels asks for it."""


class ImageNetwork(LabelNetwork):
    """What the networks of ``model.family: image_cnn`` share. A subclass defines :meth:`features_of`.

    Parameters
    ----------
    section : ImageCNNSection
        With settled labels.
    facts : ImageFacts
    num_features : int
        Features of an image before the layers of ``model.hidden``.

    References
    ----------
    .. [1] Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, arXiv:1503.07077: views of a galaxy that are averaged.
    """

    def __init__(self, section: ImageCNNSection, facts: ImageFacts, num_features: int) -> None:
        super().__init__(section.labels, section.hidden[-1] if section.hidden else num_features)
        self.facts, self.views = facts, section.views
        self.gradient_checkpointing = False

    def features_of(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images with a channel that says where pixels exist, (N, B + 1, H, W)."""
        raise NotImplementedError

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the blocks in the backward pass instead of keeping their outputs."""
        self.gradient_checkpointing = True

    def usable(self, batch: ImageBatch) -> Tensor:
        """Return, for each image, whether it has a pixel with weight, (N,), bool."""
        return batch.weight.amax(dim=(1, 2, 3)) > 0

    def features(self, batch: ImageBatch) -> Tensor:
        """Return the features of prepared images, (N, F), float32; the mean over the views in evaluation."""
        there = batch.weight.mean(dim=1, keepdim=True)
        x = torch.cat([torch.where(batch.weight > 0, batch.image, 0.0), there], dim=1)
        if self.training or self.views == 1:
            return self.features_of(x)
        return torch.stack([self.features_of(view) for view in _views(x, self.views)]).mean(dim=0)

    def through(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        """Return the output of blocks, one after the other."""
        again = self.gradient_checkpointing and self.training
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return x


def perceptron(section: ImageCNNSection, width: int) -> nn.Sequential:
    """Return the layers between `width` features and the labels."""
    layers: list[nn.Module] = []
    for next_width in section.hidden:
        # Not a ReLU: after a group normalisation the means of all images are alike, and units die together.
        layers += [nn.Linear(width, next_width), nn.LeakyReLU(0.1), nn.Dropout(section.dropout)]
        width = next_width
    return nn.Sequential(*(layers or [nn.Dropout(section.dropout)]))


class ImageCNN(ImageNetwork):
    """A residual network that begins with random weights.

    Parameters
    ----------
    section : ImageCNNSection
        With settled labels.
    facts : ImageFacts

    References
    ----------
    .. [1] He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027: normalisation and activation
       come before each convolution.
    .. [2] Wu & He 2018, Group normalization, arXiv:1803.08494: without running statistics, so that a resume is exact.
    """

    def __init__(self, section: ImageCNNSection, facts: ImageFacts) -> None:
        width = 2 * section.channels[-1]
        super().__init__(section, facts, width)
        first, kernel = section.channels[0], section.kernel
        self.stem = nn.Conv2d(
            len(facts.bands) + 1, first, kernel, stride=section.first_stride, padding=kernel // 2, bias=False
        )
        blocks, before = [], first
        for stage, channels in enumerate(section.channels):
            for number in range(section.blocks):
                blocks.append(ResidualBlock(before, channels, stride=2 if stage and not number else 1))
                before = channels
        self.blocks = nn.ModuleList(blocks)
        self.norm = _norm(before)
        self.perceptron = perceptron(section, width)

    def features_of(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images with a channel that says where pixels exist, (N, B + 1, H, W)."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # convolutions are faster in this order
        x = functional.relu(self.norm(self.through(self.blocks, x)))
        return self.perceptron(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)).float()


class ResidualBlock(nn.Module):
    """Two convolutions, each after a group normalisation and a ReLU, whose result is added to the input.

    Parameters
    ----------
    before, after : int
        Channels of input and output.
    stride : int
        2 halves height and width.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(before), _norm(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.stride = stride
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if before != after or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C', H', W')."""
        y = functional.relu(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(functional.avg_pool2d(y, self.stride, ceil_mode=True) if self.stride > 1 else y)
        y = self.conv1(y)
        return x + self.conv2(functional.relu(self.norm2(y)))


def _norm(channels: int) -> nn.GroupNorm:
    groups = max(1, channels // CHANNELS_PER_GROUP)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def _views(x: Tensor, number: int) -> list[Tensor]:
    """Return flipped and rotated copies of `x` (N, C, H, W); the first is `x`."""
    found = [x]
    if number >= 2:
        found += [each.flip(3) for each in found]
    if number >= 4:
        found += [each.flip(2) for each in found]
    if number >= 8:
        found += [each.transpose(2, 3) for each in found]
    return found
