"""ConvNeXt with the names of timm's. N images, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpctrain.families.image_cnn.encoders.layers import ChannelNorm
from hpctrain.families.image_cnn.encoders.plans import ConvNeXtPlan

_EPS = 1e-6


class Block(nn.Module):
    """Convolve each channel, then mix the channels of each pixel by a perceptron; the scaled result is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        y = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](y)))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Halve the image, except in the first stage; then some blocks."""

    def __init__(self, before: int, channels: int, depth: int, halves: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity()
        if halves:
            self.downsample = nn.Sequential(ChannelNorm(before, eps=_EPS), nn.Conv2d(before, channels, 2, stride=2))
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(depth)))


class ConvNeXt(nn.Module):
    """A ConvNeXt without its classifier.

    Parameters
    ----------
    plan : ConvNeXtPlan
    """

    def __init__(self, plan: ConvNeXtPlan) -> None:
        super().__init__()
        first = plan.channels[0]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 4, stride=4), ChannelNorm(first, eps=_EPS))
        before, stages = first, []
        for number, (depth, channels) in enumerate(zip(plan.depths, plan.channels, strict=True)):
            stages.append(Stage(before, channels, depth, halves=number > 0))
            before = channels
        self.stages = nn.ModuleList(stages)
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(before, eps=_EPS)})

    def begin(self, x: Tensor) -> Tensor:
        """Return what the first block reads."""
        return self.stem(x)

    def each_block(self) -> Iterator[nn.Module]:
        """Yield the blocks, and what halves the image between them, in their order."""
        for stage in self.stages:
            yield stage.downsample
            yield from stage.blocks

    def pooled(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of the output of the last block."""
        return self.head["norm"](x.mean(dim=(2, 3)))
