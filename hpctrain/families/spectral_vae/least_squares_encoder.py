"""The encoder that corrects the scores of a linear fit. N spectra, S latents, B bins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpctrain.families.spectral_vae.encoder import LOG_VARIANCE_LIMIT, NUM_BINS


class LeastSquaresEncoder(nn.Module):
    """A perceptron that corrects the scores of the mean spectrum and components, and their errors.

    The last layers start from 0. So before the first step, the latents are the fitted scores of PCA and the variance is
    that of the fit: what a network usually spends most of its training on.

    Parameters
    ----------
    latent_size : int
        Latents S.
    hidden : sequence of int
        Widths of the perceptron.
    dropout : float
        Dropout after each layer.

    References
    ----------
    .. [1] Kim, Wiseman, Miller, Sontag & Rush 2018, ICML, arXiv:1802.02550: semi-amortised inference.
    """

    def __init__(self, latent_size: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 2 * latent_size + 2 * NUM_BINS + 1
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.SiLU(), nn.Dropout(dropout)]
            width = next_width
        self.perceptron = nn.Sequential(*layers)
        self.mean = nn.Linear(width, latent_size)
        self.log_variance = nn.Linear(width, latent_size)
        for layer in self.perceptron:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for head in (self.mean, self.log_variance):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, scores: Tensor, errors: Tensor, bins: Tensor, redshift: Tensor) -> tuple[Tensor, Tensor]:
        """Encode linear fits.

        Parameters
        ----------
        scores, errors : Tensor, shape (N, S), float32
            Coefficients of the components and their errors, 1 where a spectrum says nothing.
        bins : Tensor, shape (N, 2 B), float32
            Compressed means and weights of broad rest-frame bins.
        redshift : Tensor, shape (N,), float32
            Redshift.

        Returns
        -------
        mean, log_variance : Tensor, shape (N, S), float32
            Parameters of the normal distribution of the latents.
        """
        log_errors = errors.clamp(min=1e-6).log()
        position = torch.log1p(redshift.float().clamp(min=-0.9))[:, None]
        hidden = self.perceptron(torch.cat([torch.asinh(scores), log_errors, bins, position], dim=1))
        mean = scores + self.mean(hidden).float()
        log_variance = 2 * log_errors + self.log_variance(hidden).float()
        return mean, LOG_VARIANCE_LIMIT * torch.tanh(log_variance / LOG_VARIANCE_LIMIT)
