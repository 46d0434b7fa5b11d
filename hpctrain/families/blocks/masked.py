"""Layers with a mask beside the values: means and pooling ignore pixels without weight.

Legend: N samples, C channels, L pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedInstanceNorm(nn.Module):
    """Instance normalisation with the mean and variance of the valid pixels.

    Parameters
    ----------
    num_channels : int
        Channels C.

    References
    ----------
    .. [1] Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022 (without a mask).
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels, 1))
        self.bias = nn.Parameter(torch.zeros(num_channels, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise `x` (N, C, L) over the pixels where `mask` (N, 1, L) is true; compute sums in float32."""
        with torch.autocast(x.device.type, enabled=False):
            count = mask.sum(-1, keepdim=True, dtype=torch.float32).clamp(min=1)
            mean = torch.where(mask, x, 0).sum(-1, keepdim=True, dtype=torch.float32) / count
            centred = torch.where(mask, x - mean.to(x.dtype), 0)
            # Use a norm in float32 instead of a mean of squares, because in float16 a square overflows at 256.
            variance = torch.linalg.vector_norm(centred, dim=-1, keepdim=True, dtype=torch.float32).square() / count
            scale = (torch.rsqrt(variance + 1e-5) * self.weight).to(x.dtype)
            return centred * scale + self.bias.to(x.dtype)


class ConvBlock(nn.Module):
    """Convolution, masked instance norm, PReLU, and a max pooling of the kernel's size that skips masked pixels.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    kernel : int
        Width of the filters [pixel].
    pool : int
        Number of pixels to pool into one; 1 does not pool.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.norm = MaskedInstanceNorm(out_channels)
        self.activation = nn.PReLU(out_channels)
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn values (N, C, L) and mask (N, 1, L) into shorter ones; masked values become 0."""
        x = self.conv(x)[..., : mask.shape[-1]]  # an even kernel gives one pixel more
        x = self.activation(self.norm(x, mask))
        if self.pool > 1:
            x = x.masked_fill(~mask, torch.finfo(x.dtype).min)
            x = functional.max_pool1d(x, self.pool, ceil_mode=True)
            mask = functional.max_pool1d(mask.to(x.dtype), self.pool, ceil_mode=True) > 0
        return x.masked_fill(~mask, 0), mask
