"""The decoder: from latents to a noiseless rest-frame spectrum."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SpectrumDecoder(nn.Module):
    """A perceptron from S latents to R rest-frame pixels.

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

    References
    ----------
    .. [1] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890, sec. 2.2.
    """

    def __init__(self, latent_size: int, hidden: Sequence[int], num_pixels: int, dropout: float = 0.0) -> None:
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
        nn.init.normal_(self.output.weight, std=0.1 / width**0.5)
        # Spectra are divided by their own median, so the decoder starts from the featureless spectrum 1. From 0, the
        # first steps would only learn the level, at a chi-square of the squared signal to noise ratio.
        nn.init.ones_(self.output.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, S) into normalised rest-frame flux (N, R)."""
        return self.output(self.hidden(latents))
