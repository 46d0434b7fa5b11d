"""Layers that several encoders use. N images, C channels, H × W pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose mean and variance stay those of the file of weights; scale and shift are trained.

    The statistics never change, so a batch does not act on another one, ranks agree, and a resume is exact.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SamePaddedConv(nn.Conv2d):
    """A convolution with the padding of TensorFlow: outputs are input / stride, and a last odd pixel is at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        sides: list[int] = []
        for size, width, step in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-size // step) - 1) * step + width - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(x, sides))


def strided_as_its_gradient(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of single channels whose weights have the strides that their gradients will have.

    The order in memory is the same. DistributedDataParallel compares the strides, also that of the axis of length 1,
    and warns where they differ.
    """
    weight = conv.weight.data
    conv.weight.data = weight.as_strided(weight.shape, (weight.stride(0), 1, *weight.stride()[2:]))
    return conv
