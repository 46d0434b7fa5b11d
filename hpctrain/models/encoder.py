"""From a noisy, gappy spectrum to the parameters of its latent distribution.

Legend: N spectra, C channels, L pixels, S latents. Every layer carries a mask beside the values: a pixel without
weight is neither averaged over, nor pooled, nor attended to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

NUM_FREQUENCIES = 4
"""Number of sine and cosine pairs that encode the rest-frame wavelength of a pixel."""

NUM_BINS = 128
"""Rest-frame bins whose means the perceptron sees beside the features of the convolutions."""

LOG_VARIANCE_LIMIT = 15.0
"""Latent log variances are bounded softly to plus or minus this; posteriors of bright objects are never so narrow."""

INITIAL_LOG_VARIANCE = -4.0
"""Start nearly deterministic: with unit noise on the latents the decoder first learns to ignore them."""


class MaskedInstanceNorm(nn.Module):
    """Instance normalisation with mean and variance of the valid pixels.

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
        """Normalise `x` (N, C, L) over the pixels where `mask` (N, 1, L) is true; sums run in float32."""
        with torch.autocast(x.device.type, enabled=False):
            count = mask.sum(-1, keepdim=True, dtype=torch.float32).clamp(min=1)
            mean = torch.where(mask, x, 0).sum(-1, keepdim=True, dtype=torch.float32) / count
            centred = torch.where(mask, x - mean.to(x.dtype), 0)
            # A norm in float32 instead of a mean of squares: in float16 a square overflows at 256.
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
        Pixels of the filters.
    pool : int
        Pixels pooled into one; 1 pools none.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.norm = MaskedInstanceNorm(out_channels)
        self.activation = nn.PReLU(out_channels)
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Take values (N, C, L) and mask (N, 1, L) to the next, shorter ones; masked values come out as 0."""
        x = self.conv(x)[..., : mask.shape[-1]]  # an even kernel gives one pixel more
        x = self.activation(self.norm(x, mask))
        if self.pool > 1:
            x = x.masked_fill(~mask, torch.finfo(x.dtype).min)
            x = functional.max_pool1d(x, self.pool, ceil_mode=True)
            mask = functional.max_pool1d(mask.to(x.dtype), self.pool, ceil_mode=True) > 0
        return x.masked_fill(~mask, 0), mask


class SpectrumEncoder(nn.Module):
    """Convolutions, softmax attention over wavelength, and a perceptron with two heads.

    Parameters
    ----------
    latent_size : int
        Latents S.
    channels, kernels : sequence of int
        Of each convolution; the last number of channels is even, as half of them become attention weights.
    hidden : sequence of int
        Widths of the perceptron.
    dropout : float
        Dropout behind each of its layers.

    References
    ----------
    .. [1] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890: the architecture. Here the encoder also gets weights and
       redshift, and skips masked pixels.
    .. [2] Liu et al. 2018, arXiv:1807.03247: coordinates as input channels.
    """

    def __init__(
        self,
        latent_size: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        hidden: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [3 + 2 * NUM_FREQUENCIES, *channels]
        pools = [*kernels[:-1], 1]
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], kernel, pools[i]) for i, kernel in enumerate(kernels)
        )
        layers: list[nn.Module] = []
        width = channels[-1] // 2 + 2 * NUM_BINS + 1
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.PReLU(next_width), nn.Dropout(dropout)]
            width = next_width
        self.perceptron = nn.Sequential(*layers)
        self.mean = nn.Linear(width, latent_size)
        self.log_variance = nn.Linear(width, latent_size)
        for layer in self.perceptron:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, INITIAL_LOG_VARIANCE)

    def forward(
        self, flux: Tensor, ivar: Tensor, visible: Tensor, phase: Tensor, bins: Tensor, redshift: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode normalised spectra.

        Parameters
        ----------
        flux, ivar : Tensor, shape (N, L), float32
            Normalised flux and its inverse variance; values of pixels that are not visible are never used.
        visible : Tensor, shape (N, L), bool
            Pixels the network may see.
        phase : Tensor, shape (N, L), float32
            Rest-frame wavelength, 0 to 1 over the rest grid in log wavelength.
        bins : Tensor, shape (N, 2 * NUM_BINS), float32
            From :func:`bin_channels`.
        redshift : Tensor, shape (N,), float32
            Redshift.

        Returns
        -------
        mean, log_variance : Tensor, shape (N, S), float32
            Of the normal distribution of the latents.
        """
        mask = visible[:, None, :]
        x = torch.cat([spectrum_channels(flux, ivar, visible), position_channels(phase)], dim=1)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x, mask = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x, mask = block(x, mask)
        value, attention = x.chunk(2, dim=1)
        attention = attention.float().masked_fill(~mask, torch.finfo(torch.float32).min)
        features = (value.float() * attention.softmax(dim=-1)).sum(dim=-1)
        features = torch.cat([features, bins, torch.log1p(redshift.float().clamp(min=-0.9))[:, None]], dim=1)
        hidden = self.perceptron(features)
        limit = LOG_VARIANCE_LIMIT
        log_variance = limit * torch.tanh(self.log_variance(hidden).float() / limit)
        return self.mean(hidden).float(), log_variance


def spectrum_channels(flux: Tensor, ivar: Tensor, visible: Tensor) -> Tensor:
    """Compress flux and weight of the visible pixels into three well-scaled channels.

    A Wiener factor shrinks the flux towards 1, the mean of normalised spectra, so that noise vanishes with the weight,
    and a masked pixel (exactly 0) is the limit of a noisy one. arcsinh keeps cosmic rays and bright lines within the
    range of float16.

    Parameters
    ----------
    flux, ivar : Tensor, shape (N, L), float32
        Normalised flux and inverse variance.
    visible : Tensor, shape (N, L), bool
        Pixels that may be used.

    Returns
    -------
    Tensor, shape (N, 3, L), float32
        Flux, signal to noise ratio, visibility.
    """
    ivar = torch.where(visible, ivar, 0).float()
    excess = torch.where(visible, flux, 1).float() - 1
    return torch.stack([*_compressed(excess, ivar), visible.float()], dim=1)


def bin_channels(excess: Tensor, ivar: Tensor) -> Tensor:
    """Compress binned flux less 1 and its weight, each (N, B), into (N, 2 B) features."""
    return torch.cat(_compressed(excess, ivar), dim=1)


def _compressed(excess: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
    return torch.asinh(excess * (ivar / (ivar + 1))), 0.2 * torch.asinh(torch.sqrt(ivar))


def position_channels(phase: Tensor) -> Tensor:
    """Sines and cosines of the rest-frame position, octave by octave: (N, L) to (N, 2 * NUM_FREQUENCIES, L)."""
    angles = torch.stack([phase * (torch.pi * 2**k) for k in range(NUM_FREQUENCIES)], dim=1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
