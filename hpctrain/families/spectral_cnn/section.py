"""The ``model`` section of a profile with ``model.family: spectral_cnn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from hpctrain.families.labels.section import LABELS_ARE_FIXED, Labels
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection


class SpectralCNNSection(ModelSection):
    """A convolutional network that learns labels of spectra. The redshift is no input."""

    fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("family", "channels", "kernels", "pool", "regions", "hidden"), NETWORK_SHAPE),
        "labels": LABELS_ARE_FIXED,
    }
    pinned: ClassVar[tuple[str, ...]] = ("labels",)

    regions: Annotated[int, Field(ge=1, le=4096)] = 64
    """Pieces of the spectrum whose mean features the perceptron gets; more of them keep the place of a line better."""
    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=12)] = [16, 32, 64]
    """Filters of each convolution."""
    kernels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=12)] = [7, 7, 7]
    """Width of the filters of each convolution [pixel]."""
    pool: Annotated[int, Field(ge=1, le=64)] = 3
    """Pixels that are pooled into one after each convolution but the last."""
    hidden: list[Annotated[int, Field(ge=1)]] = [128]
    """Widths of the layers between convolutions and labels."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in these layers."""
    labels: Labels = []
    """The columns to learn; at least one."""
