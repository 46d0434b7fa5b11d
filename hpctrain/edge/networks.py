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
from hpctrain.families.spectral_vae.least_squares_encoder import LeastSquaresEncoder
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
        """Return inputs of the right shapes; the first spectrum is fully masked, the others are partly masked.

        Rest pixels begin below the grid and rise by one.
        """
        generator = torch.Generator().manual_seed(1)
        feeds = tuple(torch.rand(port.sized(num_spectra), generator=generator) for port in self.inputs)
        for port, feed in zip(self.inputs, feeds, strict=True):
            if port.name == "ivar":
                feed.mul_(100.0 * (feed > 0.2))
                feed[0] = 0.0
            elif port.name == "pixel" and self.preparation is not None:
                most = float(self.preparation.num_rest_pixels - 2)
                feed.copy_((torch.arange(feed.shape[1]) - 1.0 - (16 * feed[:, :1]).floor()).clamp(-1.0, most))
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
    """Latents and decoder of the spectral autoencoder, as :meth:`SpectralVAE.describe` computes them.

    Parameters
    ----------
    model : SpectralVAE

    Attributes
    ----------
    inputs : tuple of str
        Names of the inputs, in their order. Only a network with convolutions reads ``phase``. Only one that fits
        spectra (a least-squares encoder, or Gauss-Newton steps) reads ``pixel`` and ``fraction``.
    """

    def __init__(self, model: SpectralVAE) -> None:
        super().__init__()
        self.model = model
        self._is_fitted = isinstance(model.encoder, LeastSquaresEncoder)
        places = ("phase",) * (not self._is_fitted)
        if self._is_fitted or model.num_refinements:
            places += ("pixel", "fraction")
        self.inputs = ("flux", "ivar", *places, "bins", "redshift")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents (N, S) and rest-frame flux (N, R) of normalised spectra; pixels with ivar 0 are not used."""
        given = dict(zip(self.inputs, tensors, strict=True))
        flux, ivar, bins, redshift = (given[name] for name in ("flux", "ivar", "bins", "redshift"))
        if "pixel" in given:
            weight = torch.where(given["pixel"] >= 0, ivar, 0)
            place = given["pixel"].clamp(min=0).long(), given["fraction"]
        if self._is_fitted:
            latents, _ = self.model.encoder(*self.model.fit_linear(flux, weight, place), bins, redshift)
        else:
            latents, _ = self.model.encoder(flux, ivar, ivar > 0, given["phase"], bins, redshift)
        for _ in range(self.model.num_refinements):
            latents = self.model.refine(latents, flux, weight, place)
        return latents, self.model.decoder(latents)


def _spectral_vae(model: SpectralVAE, card: dict[str, Any]) -> ExportedNetwork:
    num_pixels, grid, normalise = model.facts.num_pixels, model.grid, card["normalise"]
    module = SpectralVAENetwork(model).eval()
    shapes = {"bins": (2 * NUM_BINS,), "redshift": ()}
    return ExportedNetwork(
        module=module,
        inputs=tuple(Port(name, shapes.get(name, (num_pixels,))) for name in module.inputs),
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
