"""From latents to a noiseless rest-frame spectrum."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SpectrumDecoder(nn.Module):
    """A perceptron from S latents to R rest-frame pixels.

    Parameters
    ----------
    latent_size : int
        Latents S.
    hidden : sequence of int
        Widths of the layers between.
    num_pixels : int
        Pixels R of the rest grid.
    dropout : float
        Dropout behind each layer but the last.

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
        # Spectra are divided by their own median, so the featureless spectrum 1 is the right place to start; from 0
        # the first steps are spent on the level alone, at a chi-square of the signal to noise ratio squared.
        nn.init.ones_(self.output.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (N, S) into normalised rest-frame flux (N, R)."""
        return self.output(self.hidden(latents))
