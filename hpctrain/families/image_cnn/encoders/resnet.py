"""Residual networks with the names of timm's. N images, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from hpctrain.families.image_cnn.encoders.layers import FrozenBatchNorm
from hpctrain.families.image_cnn.encoders.plans import ResNetPlan

_GROUPS = 32


def _norm(plan: ResNetPlan, channels: int) -> nn.Module:
    return FrozenBatchNorm(channels) if plan.has_statistics else nn.GroupNorm(_GROUPS, channels)


class Block(nn.Module):
    """Two convolutions, or three of which the middle one is narrow, whose result is added to the input.

    Parameters
    ----------
    plan : ResNetPlan
    before, planes : int
        Channels of the input, and of the narrow convolution.
    stride : int
    """

    def __init__(self, plan: ResNetPlan, before: int, planes: int, stride: int) -> None:
        super().__init__()
        after = planes * plan.expansion
        if plan.bottleneck:
            self.conv1, self.bn1 = nn.Conv2d(before, planes, 1, bias=False), _norm(plan, planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
            self.bn2 = _norm(plan, planes)
            self.conv3, self.bn3 = nn.Conv2d(planes, after, 1, bias=False), _norm(plan, after)
        else:
            self.conv1 = nn.Conv2d(before, planes, 3, stride=stride, padding=1, bias=False)
            self.bn1 = _norm(plan, planes)
            self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), _norm(plan, planes)
            self.conv3 = None
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), _norm(plan, after))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C', H', W')."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None:
            y = self.bn3(self.conv3(functional.relu(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network without its classifier.

    Parameters
    ----------
    plan : ResNetPlan
    """

    def __init__(self, plan: ResNetPlan) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), _norm(plan, 64)
        before = 64
        for number, (planes, blocks) in enumerate(zip(plan.planes, plan.layers, strict=True), 1):
            stage = []
            for block in range(blocks):
                stage.append(Block(plan, before, planes, stride=2 if number > 1 and not block else 1))
                before = planes * plan.expansion
            self.add_module(f"layer{number}", nn.Sequential(*stage))

    def begin(self, x: Tensor) -> Tensor:
        """Return what the first block reads."""
        return functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)

    def each_block(self) -> Iterator[nn.Module]:
        """Yield the blocks in their order."""
        for number in range(1, 5):
            yield from self.get_submodule(f"layer{number}").children()

    def pooled(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of the output of the last block."""
        return x.mean(dim=(2, 3))
