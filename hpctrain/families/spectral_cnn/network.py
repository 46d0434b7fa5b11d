"""Convolutions over a spectrum that skip masked pixels, and labels from what they find in each part of it.

Legend: N spectra, C channels, L pixels, R regions, F features.

::

    flux, ivar, visible ─▶ convolutions and pooling (C, L') ─▶ means of R regions ┐
                      └──▶ means of flux and signal to noise of R regions ────────┴▶ perceptron (F) ─▶ labels
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hpctrain.families.blocks.masked import ConvBlock
from hpctrain.families.blocks.spectra import NUM_FREQUENCIES, position_channels, spectrum_channels
from hpctrain.families.labels.network import LabelNetwork

if TYPE_CHECKING:
    from hpctrain.families.spectral_cnn.section import SpectralCNNSection
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.facts import SpectraFacts

_FLUX_CHANNELS = 3


class SpectralCNN(LabelNetwork):
    """The network of ``model.family: spectral_cnn``.

    Parameters
    ----------
    section : SpectralCNNSection
        With settled labels.
    facts : SpectraFacts
        The observed grid.

    References
    ----------
    .. [1] Busca & Balland 2018, QuasarNET, arXiv:1808.09955: convolutions over a spectrum, then dense layers that know
       where in the spectrum a feature was found.
    .. [2] Liu et al. 2018, arXiv:1807.03247: coordinates as input channels.
    """

    def __init__(self, section: SpectralCNNSection, facts: SpectraFacts) -> None:
        lengths = _lengths(facts.num_pixels, section.pool, len(section.channels))
        num_regions = min(section.regions, lengths[-1])
        width = num_regions * section.channels[-1] + 2 * min(section.regions, facts.num_pixels)
        super().__init__(section.labels, section.hidden[-1] if section.hidden else width)
        self.facts = facts
        self.gradient_checkpointing = False
        widths = [_FLUX_CHANNELS + 2 * NUM_FREQUENCIES, *section.channels]
        pools = [section.pool] * (len(section.channels) - 1) + [1]
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], kernel, pools[i]) for i, kernel in enumerate(section.kernels)
        )
        layers: list[nn.Module] = []
        for next_width in section.hidden:
            layers += [nn.Linear(width, next_width), nn.PReLU(next_width), nn.Dropout(section.dropout)]
            width = next_width
        self.perceptron = nn.Sequential(*layers)
        for layer in self.perceptron:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
        self.register_buffer("regions", _membership(lengths[-1], num_regions), persistent=False)
        self.register_buffer("parts", _membership(facts.num_pixels, section.regions), persistent=False)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the convolutions in the backward pass instead of keeping their outputs."""
        self.gradient_checkpointing = True

    def usable(self, batch: SpectraBatch) -> Tensor:
        """Return, for each spectrum, whether it has a valid pixel, (N,), bool."""
        return batch.used

    def features(self, batch: SpectraBatch) -> Tensor:
        """Return the features of normalised spectra, (N, F), float32."""
        visible = batch.ivar > 0
        if batch.visible is not None:
            visible = visible & batch.visible
        mask = visible[:, None, :]
        phase = self._phase(batch.wavelength_aa).expand(batch.flux.shape)
        channels = spectrum_channels(batch.flux, batch.ivar, visible)
        x = torch.cat([channels, position_channels(phase)], dim=1)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x, mask = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x, mask = block(x, mask)
        found = _means(x, mask, self.regions)
        plain = _means(channels[:, :2], visible[:, None, :], self.parts)
        return self.perceptron(torch.cat([found.flatten(1), plain.flatten(1)], dim=1)).float()

    def _phase(self, wavelength_aa: Tensor) -> Tensor:
        """Return the place on the grid of the training spectra in log wavelength, 0 to 1."""
        first, last = self.facts.wavelength_aa
        return (torch.log(wavelength_aa / first) / math.log(last / first)).float()


def _lengths(num_pixels: int, pool: int, num_layers: int) -> list[int]:
    """Return the number of pixels after each convolution."""
    lengths = [num_pixels]
    for layer in range(num_layers):
        lengths.append(lengths[-1] if layer + 1 == num_layers else -(-lengths[-1] // pool))
    return lengths[1:]


def _membership(num_pixels: int, num_regions: int) -> Tensor:
    """Return which of the pixels belong to which of R regions of equal width, shape (L, R), 0 or 1."""
    num_regions = min(num_regions, num_pixels)
    region = torch.arange(num_pixels) * num_regions // num_pixels
    return nn.functional.one_hot(region, num_regions).float()


def _means(x: Tensor, mask: Tensor, membership: Tensor) -> Tensor:
    """Return the means of `x` (N, C, L) over the valid pixels of each region, (N, C, R); 0 where there are none."""
    with torch.autocast(x.device.type, enabled=False):
        total = torch.where(mask, x.float(), 0.0) @ membership
        count = mask.float() @ membership
        return total / count.clamp(min=1)
