"""The ``model`` section of a profile with ``model.family: image_cnn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpctrain.families.labels.section import LABELS_ARE_FIXED, Labels
from hpctrain.profile.sections.base import PathText
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection

Width = Annotated[int, Field(ge=1, le=4096)]

Encoder = Literal[
    "residual",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet50_gn",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite3",
    "tf_efficientnet_lite4",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
]
"""A network of our own, and the names of :data:`~hpctrain.families.image_cnn.encoders.plans.PLANS`."""

FROM_CHECKPOINT = "the weights now come from the checkpoint"


class ImageCNNSection(ModelSection):
    """A residual network that learns labels of images."""

    fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("family", "encoder", "channels", "blocks", "kernel", "first_stride", "hidden"), NETWORK_SHAPE),
        "weights": FROM_CHECKPOINT,
        "labels": LABELS_ARE_FIXED,
    }
    pinned: ClassVar[tuple[str, ...]] = ("labels",)
    paths: ClassVar[tuple[str, ...]] = ("weights",)

    encoder: Encoder = "residual"
    """``residual``: a small residual network of the sizes below; other names are those of timm, for its weights."""
    weights: PathText | None = None
    """Start from these weights: a .safetensors or .pth file with the tensors of timm's network of this name, or a run
    of this family, also one with other labels. A resumed run does not read them again."""
    channels: Annotated[list[Width], Field(min_length=1, max_length=8)] = [16, 32, 64, 128]
    """Filters of each stage of ``residual``; every stage but the first halves height and width."""
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
