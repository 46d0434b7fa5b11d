"""The ``model`` section of a profile with ``model.family: image_cnn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from hpctrain.families.labels.section import LABELS_ARE_FIXED, Labels
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection

Width = Annotated[int, Field(ge=1, le=4096)]


class ImageCNNSection(ModelSection):
    """A residual network that learns labels of images."""

    fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("family", "channels", "blocks", "kernel", "first_stride", "hidden"), NETWORK_SHAPE),
        "labels": LABELS_ARE_FIXED,
    }
    pinned: ClassVar[tuple[str, ...]] = ("labels",)

    channels: Annotated[list[Width], Field(min_length=1, max_length=8)] = [16, 32, 64, 128]
    """Filters of each stage; every stage but the first halves height and width."""
    blocks: Annotated[int, Field(ge=1, le=64)] = 1
    """Residual blocks of two convolutions in each stage."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    """Width of the filters of the first convolution [pixel]; those of the others are 3 wide."""
    first_stride: Annotated[int, Field(ge=1, le=4)] = 2
    """Step of the first convolution [pixel]; 2 is four times as fast as 1."""
    hidden: list[Width] = []
    """Widths of layers between convolutions and labels. Training may not leave its start with such layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the labels, or in these layers."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Flipped and rotated copies of each image whose features evaluation and prediction average: 1, 2 or 4 (flips), 8
    (with rotations by 90°, for square images). The network computes as many times as much."""
    labels: Labels = []
    """The columns to learn; at least one."""
