"""The encoder: from a noisy spectrum with gaps to the parameters of its latent distribution.

Legend: N spectra, C channels, L pixels, S latents. Every layer has a mask beside the values: means, pooling and
attention ignore pixels without weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpctrain.families.blocks.masked import ConvBlock
from hpctrain.families.blocks.spectra import NUM_FREQUENCIES, position_channels, spectrum_channels

NUM_BINS = 128
"""Number of rest-frame bins whose means the perceptron gets beside the features of the convolutions."""

LOG_VARIANCE_LIMIT = 15.0
"""Soft bound of the absolute latent log variances; the posteriors of bright objects are never as narrow."""

INITIAL_LOG_VARIANCE = -4.0
"""Initial log variance of the latents. It is small, because with unit noise the decoder first learns to ignore them."""


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
