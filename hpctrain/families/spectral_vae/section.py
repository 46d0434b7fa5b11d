"""The ``model`` section of a profile with ``model.family: spectral_vae``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hpctrain.families.spectral_vae.choices import CONVOLUTIONAL, LEAST_SQUARES, PCA, RANDOM
from hpctrain.profile.sections.base import WavelengthRange
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection

_BEFORE: Mapping[str, Any] = {
    "encoder": CONVOLUTIONAL,
    "start": RANDOM,
    "robust": None,
    "refine": 0,
    "rest_oversampling": 1,
    "encoder_hidden": [128, 64, 32],
    "decoder_hidden": [64, 256, 1024],
}
"""What a section meant that sizes convolutions, before there were the keys `encoder` and `start`."""


class SpectralVAESection(ModelSection):
    """A variational autoencoder of spectra with the redshift applied between a rest-frame decoder and the data."""

    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "family",
            "latent_size",
            "encoder",
            "start",
            "encoder_channels",
            "encoder_kernels",
            "encoder_hidden",
            "decoder_hidden",
            "rest_wavelength_aa",
            "rest_pixels",
            "rest_oversampling",
        ),
        NETWORK_SHAPE,
    )
    pinned: ClassVar[tuple[str, ...]] = ("rest_wavelength_aa", "rest_pixels")

    latent_size: Annotated[int, Field(ge=1, le=1024)] = 10
    """Length S of a latent vector; more than 6 to 10 did not help for quasars (SpenderQ)."""
    encoder: Literal["least_squares", "convolutional"] = LEAST_SQUARES
    """Encoder: the scores of a least-squares fit, corrected by a small network; or convolutions over the pixels."""
    start: Literal["pca", "random"] = PCA
    """First decoder: the mean spectrum and S components of a weighted PCA of training spectra, to which the network
    adds what is not linear; or random weights."""
    start_spectra: Annotated[int, Field(ge=1)] = 6000
    """Largest number of training spectra for the PCA."""
    start_simulated: Annotated[int, Field(ge=0, le=100000)] | None = None
    """Simulated spectra that the PCA gets besides; if unset, 500 where there are fewer than 1,000 training spectra."""
    encoder_channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)] = [128, 256, 512]
    """Filters of each convolution; half of those of the last one become attention weights, so their number must be
    even."""
    encoder_kernels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)] = [5, 11, 21]
    """Kernel size of each convolution [pixel]; a pooling of the same size follows each but the last."""
    encoder_hidden: list[Annotated[int, Field(ge=1)]] = [64, 64]
    """Widths of the encoder's fully connected layers."""
    decoder_hidden: list[Annotated[int, Field(ge=1)]] = [64, 64]
    """Widths of the decoder's layers."""
    rest_wavelength_aa: WavelengthRange | None = None
    """Range of the decoder's rest-frame grid [AA]; if unset, the range covered by the data and their redshifts."""
    rest_pixels: Annotated[int, Field(ge=16, le=200000)] | None = None
    """Pixels of this logarithmic grid; if unset, `rest_oversampling` times as many per unit of log wavelength as the
    data have on average."""
    rest_oversampling: Annotated[int, Field(ge=1, le=8)] | None = None
    """Rest-frame pixels for each observed pixel; if unset, 2 where observed pixels are wider than 2 AA, else 1."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the fully connected layers."""
    robust: Annotated[float, Field(gt=0)] | None = 3.0
    """Reduced chi-square k from which a spectrum loses influence: its chi-square c over n pixels counts as
    k n log(1 + c / (k n)). Without it (null), a few bright spectra own every gradient."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Kullback-Leibler term; 1 is the evidence lower bound."""
    beta_warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which `beta` rises from 0 to its value."""
    refine: Annotated[int, Field(ge=0, le=20)] = 1
    """Gauss-Newton steps that improve the latents of a finished model, in encode, predict and the exported bundle."""

    @model_validator(mode="before")
    @classmethod
    def _keep_the_meaning_of_older_sections(cls, values: Any) -> Any:
        """Read a section that sizes convolutions but names no encoder as hpctrain did before it had other encoders."""
        if not isinstance(values, Mapping) or "encoder" in values or "start" in values:
            return values
        if not {"encoder_channels", "encoder_kernels"} & set(values):
            return values
        return {**_BEFORE, **values}
