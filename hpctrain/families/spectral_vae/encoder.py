"""The encoder: from a noisy spectrum with gaps to the parameters of its latent distribution.

Legend: N spectra, C channels, L pixels, S latents. Every layer has a mask beside the values: means, pooling and
attention ignore pixels without weight.
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
"""Number of rest-frame bins whose means the perceptron gets beside the features of the convolutions."""

LOG_VARIANCE_LIMIT = 15.0
"""Soft bound of the absolute latent log variances; the posteriors of bright objects are never as narrow."""

INITIAL_LOG_VARIANCE = -4.0
"""Initial log variance of the latents. It is small, because with unit noise the decoder first learns to ignore them."""


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


class SpectrumEncoder(nn.Module):
    """Convolutions, softmax attention over wavelength, and a perceptron with two heads.

    Parameters
    ----------
    latent_size : int
        Latents S.
    channels, kernels : sequence of int
        Channels and kernel size of each convolution. The last number of channels must be even, because half of them
        become attention weights.
    hidden : sequence of int
        Widths of the perceptron.
    dropout : float
        Dropout after each layer of the perceptron.

    References
    ----------
    .. [1] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890: the architecture. Our encoder also gets weights and
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
            Normalised flux and its inverse variance; the encoder ignores the values of invisible pixels.
        visible : Tensor, shape (N, L), bool
            Pixels that the network may use.
        phase : Tensor, shape (N, L), float32
            Rest-frame wavelength, 0 to 1 over the rest grid in log wavelength.
        bins : Tensor, shape (N, 2 * NUM_BINS), float32
            Features of :func:`bin_channels`.
        redshift : Tensor, shape (N,), float32
            Redshift.

        Returns
        -------
        mean, log_variance : Tensor, shape (N, S), float32
            Parameters of the normal distribution of the latents.
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
    """Compress binned flux minus 1 and its weight, each (N, B), into (N, 2 B) features."""
    return torch.cat(_compressed(excess, ivar), dim=1)


def _compressed(excess: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
    return torch.asinh(excess * (ivar / (ivar + 1))), 0.2 * torch.asinh(torch.sqrt(ivar))


def position_channels(phase: Tensor) -> Tensor:
    """Return sines and cosines of the rest-frame position by octave: (N, L) to (N, 2 * NUM_FREQUENCIES, L)."""
    angles = torch.stack([phase * (torch.pi * 2**k) for k in range(NUM_FREQUENCIES)], dim=1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
