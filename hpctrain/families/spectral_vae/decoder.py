"""The decoder: from latents to a noiseless rest-frame spectrum. N spectra, S latents, R rest-frame pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SpectrumDecoder(nn.Module):
    """A perceptron from latents to rest-frame pixels, alone or beside a linear model.

    Parameters
    ----------
    latent_size : int
        Number S of latents.
    hidden : sequence of int
        Widths of the hidden layers.
    num_pixels : int
        Number R of pixels of the rest grid.
    dropout : float
        Dropout after each layer except the last.
    linear : bool
        Whether the perceptron only adds to a mean spectrum and S components, which are constants
        (:meth:`set_linear`). It then starts from 0: before the first step the decoder is the linear model.

    References
    ----------
    .. [1] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890, sec. 2.2.
    """

    def __init__(
        self, latent_size: int, hidden: Sequence[int], num_pixels: int, dropout: float = 0.0, linear: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = latent_size
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.SiLU(), nn.Dropout(dropout)]
            width = next_width
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(width, num_pixels)
        for layer in self.hidden:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.is_linear_plus = linear
        if linear:
            self.register_buffer("mean", torch.ones(num_pixels))
            self.register_buffer("components", torch.zeros(latent_size, num_pixels))
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)
            return
        nn.init.normal_(self.output.weight, std=0.1 / width**0.5)
        # Spectra are divided by their own median, so the decoder starts from the featureless spectrum 1. From 0, the
        # first steps would only learn the level, at a chi-square of the squared signal to noise ratio.
        nn.init.ones_(self.output.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, S) into normalised rest-frame flux (N, R)."""
        change = self.output(self.hidden(latents))
        if not self.is_linear_plus:
            return change
        with torch.autocast(latents.device.type, enabled=False):
            return torch.addmm(self.mean, latents.float(), self.components) + change

    def set_linear(self, mean: Tensor, components: Tensor) -> None:
        """Set the mean spectrum (R,) and the components (S, R); fewer components leave the last ones 0."""
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[: len(components)].copy_(components)

    @property
    def atoms(self) -> Tensor:
        """Mean spectrum and components as columns, shape (R, 1 + S)."""
        return torch.cat([self.mean[None], self.components]).T.contiguous()

    def linearise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return rest-frame flux (N, R) and its derivatives by the latents (N, S, R); without dropout, in float32."""
        with torch.autocast(latents.device.type, enabled=False):
            size = latents.shape[1]
            values = latents.float()
            slopes = torch.eye(size, device=latents.device).expand(latents.shape[0], size, size)
            for layer in self.hidden:
                if isinstance(layer, nn.Linear):
                    values, slopes = layer(values), slopes @ layer.weight.T
                elif isinstance(layer, nn.SiLU):
                    gate = torch.sigmoid(values)
                    slopes = slopes * (gate * (1 + values * (1 - gate)))[:, None, :]
                    values = values * gate
            flux, slopes = self.output(values), slopes @ self.output.weight.T
            if self.is_linear_plus:
                flux = torch.addmm(self.mean, latents.float(), self.components) + flux
                slopes = slopes + self.components
            return flux, slopes
