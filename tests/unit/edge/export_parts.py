"""What the small networks of these tests are made of."""

from __future__ import annotations

from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.section import NormaliseSection

SECTION = SpectralVAESection(latent_size=3, encoder_hidden=[16, 12], decoder_hidden=[16, 24])
"""The default: least-squares scores, a linear model beside the decoder, one Gauss-Newton step."""

CONVOLUTIONAL = SpectralVAESection(
    latent_size=3,
    encoder_channels=[12, 16],
    encoder_kernels=[5, 8],
    encoder_hidden=[16, 12],
    decoder_hidden=[16, 24],
)
"""The network of older runs. One even kernel, which gives a pixel more than it takes."""

REFINED = CONVOLUTIONAL.model_copy(update={"refine": 1})
"""Convolutions, whose latents a Gauss-Newton step improves."""

CARD = {"family": "spectral_vae", "normalise": NormaliseSection().model_dump(mode="json"), "seed": 1}
