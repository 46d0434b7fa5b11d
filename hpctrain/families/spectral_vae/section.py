"""The ``model`` section of a profile with ``model.family: spectral_vae``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from hpctrain.profile.sections.base import WavelengthRange
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection


class SpectralVAESection(ModelSection):
    """A variational autoencoder of spectra with the redshift applied between a rest-frame decoder and the data."""

    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "family",
            "latent_size",
            "encoder_channels",
            "encoder_kernels",
            "encoder_hidden",
            "decoder_hidden",
            "rest_wavelength_aa",
            "rest_pixels",
        ),
        NETWORK_SHAPE,
    )
    pinned: ClassVar[tuple[str, ...]] = ("rest_wavelength_aa", "rest_pixels")

    latent_size: Annotated[int, Field(ge=1, le=1024)] = 10
    """Length S of a latent vector; more than 6 to 10 did not help for quasars (SpenderQ)."""
    encoder_channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)] = [128, 256, 512]
    """Filters of each convolution; half of those of the last one become attention weights, so their number must be
    even."""
    encoder_kernels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)] = [5, 11, 21]
    """Kernel size of each convolution [pixel]; a pooling of the same size follows each but the last."""
    encoder_hidden: list[Annotated[int, Field(ge=1)]] = [128, 64, 32]
    """Widths of the layers between convolutions and latent vector."""
    decoder_hidden: list[Annotated[int, Field(ge=1)]] = [64, 256, 1024]
    """Widths of the decoder's layers."""
    rest_wavelength_aa: WavelengthRange | None = None
    """Range of the decoder's rest-frame grid [AA]; if unset, the range covered by the data and their redshifts."""
    rest_pixels: Annotated[int, Field(ge=16, le=200000)] | None = None
    """Pixels of this logarithmic grid; if unset, as many per unit of log wavelength as the data have on average."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the fully connected layers."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Kullback-Leibler term; 1 is the evidence lower bound."""
    beta_warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which `beta` rises from 0 to its value."""
