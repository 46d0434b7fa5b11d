"""The exported part of each family of models: a module of tensors in and out, with names and shapes.

Legend: N spectra (the only dimension that may vary), L observed pixels, R rest-frame pixels, S latents, B bins.

The parts that need double precision or depend on the file (normalisation, places on the rest grid, interpolation to
the observed pixels) are outside, in :mod:`hpctrain.edge.prepare`: TensorRT has no float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hpctrain.edge.prepare import Preparation
from hpctrain.errors import CheckpointError
from hpctrain.families.spectral_vae.encoder import NUM_BINS
from hpctrain.families.spectral_vae.network import SpectralVAE

BATCH = "N"
"""Name of the dimension that varies."""


@dataclass(frozen=True)
class Port:
    """An input or output.

    Parameters
    ----------
    name : str
    shape : tuple of int
        All dimensions but the first, which is N.
    """

    name: str
    shape: tuple[int, ...]

    def sized(self, num_spectra: int) -> tuple[int, ...]:
        """Return the whole shape for a number of spectra."""
        return (num_spectra, *self.shape)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``."""
        return {"name": self.name, "dtype": "float32", "shape": [BATCH, *self.shape]}


@dataclass(frozen=True)
class ExportedNetwork:
    """An exported network.

    Parameters
    ----------
    module : torch.nn.Module
        Module in evaluation mode, on the CPU; it takes the inputs in their order and returns a tuple of the outputs.
    inputs, outputs : tuple of Port
        Inputs and outputs, all float32.
    preparation : Preparation
        Prepares the inputs from spectra, and computes a catalogue from the outputs.
    """

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preparation: Preparation

    def example(self, num_spectra: int) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes; the first spectrum is fully masked, the others are partly masked."""
        generator = torch.Generator().manual_seed(1)
        feeds = tuple(torch.rand(port.sized(num_spectra), generator=generator) for port in self.inputs)
        for port, feed in zip(self.inputs, feeds, strict=True):
            if port.name == "ivar":
                feed.mul_(100.0 * (feed > 0.2))
                feed[0] = 0.0
        return feeds


def exported_network(model: nn.Module, card: dict[str, Any]) -> ExportedNetwork:
    """Return the exported part of a trained model.

    Parameters
    ----------
    model : torch.nn.Module
        Model from :func:`hpctrain.families.store.load_model`.
    card : dict
        The model's card.

    Raises
    ------
    CheckpointError
        Models of this family cannot be exported.
    """
    build = NETWORKS.get(card["family"])
    if build is None:
        known = ", ".join(NETWORKS)
        raise CheckpointError(f"model.family {card['family']!r} cannot be exported; those that can: {known}")
    return build(model, card)


class SpectralVAENetwork(nn.Module):
    """Encoder mean and decoder of the spectral autoencoder.

    Parameters
    ----------
    model : SpectralVAE
    """

    def __init__(self, model: SpectralVAE) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder

    def forward(self, flux: Tensor, ivar: Tensor, phase: Tensor, bins: Tensor, redshift: Tensor) -> tuple[Tensor, ...]:
        """Return latents (N, S) and rest-frame flux (N, R) of normalised spectra; pixels with ivar 0 are not used."""
        mean, _ = self.encoder(flux, ivar, ivar > 0, phase, bins, redshift)
        return mean, self.decoder(mean)


def _spectral_vae(model: SpectralVAE, card: dict[str, Any]) -> ExportedNetwork:
    num_pixels, grid, normalise = model.facts.num_pixels, model.grid, card["normalise"]
    per_pixel = (num_pixels,)
    return ExportedNetwork(
        module=SpectralVAENetwork(model).eval(),
        inputs=(
            Port("flux", per_pixel),
            Port("ivar", per_pixel),
            Port("phase", per_pixel),
            Port("bins", (2 * NUM_BINS,)),
            Port("redshift", ()),
        ),
        outputs=(Port("latents", (model.encoder.mean.out_features,)), Port("rest_flux", (grid.num_pixels,))),
        preparation=Preparation(
            windows_aa=tuple((float(low), float(high)) for low, high in normalise["windows_aa"]),
            min_snr=float(normalise["min_snr"]),
            log_start=float(grid.log_start),
            log_step=float(grid.log_step),
            num_rest_pixels=int(grid.num_pixels),
            num_bins=NUM_BINS,
        ),
    )


NETWORKS: dict[str, Callable[[Any, dict[str, Any]], ExportedNetwork]] = {"spectral_vae": _spectral_vae}
"""Function that exports each ``model.family``; a new family adds a line here."""
