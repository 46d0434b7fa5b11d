"""Channels in which a network reads spectra. Legend: N spectra, L pixels."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_FREQUENCIES = 4
"""Number of sine and cosine pairs that encode the wavelength of a pixel."""


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
    """Return sines and cosines of a position by octave: (N, L) to (N, 2 * NUM_FREQUENCIES, L)."""
    angles = torch.stack([phase * (torch.pi * 2**k) for k in range(NUM_FREQUENCIES)], dim=1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
