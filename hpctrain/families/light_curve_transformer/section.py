"""The ``model`` section of a profile with ``model.family: light_curve_transformer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpctrain.families.labels.section import LABELS_ARE_FIXED, Labels
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection

TRANSFORMER, GRU, NONE = "transformer", "gru", "none"


class LightCurveTransformerSection(ModelSection):
    """A network that learns labels of light curves of any length and sampling."""

    fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("family", "encoder", "width", "layers", "heads", "feedforward", "harmonics", "hidden", "bins"),
            NETWORK_SHAPE,
        ),
        "labels": LABELS_ARE_FIXED,
    }
    pinned: ClassVar[tuple[str, ...]] = ("labels",)

    encoder: Literal["transformer", "gru", "none"] = TRANSFORMER
    """``transformer``: each point looks at all others; ``gru``: a recurrent network goes from the first point to the
    last; ``none``: no point is read, only `data.statistics` and `data.features`, which is best for few curves."""
    width: Annotated[int, Field(ge=4, le=4096)] = 64
    """Numbers per point inside the network."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """Layers of the encoder."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Attention heads of each layer, for ``encoder: transformer``; `width` must be a multiple of it."""
    feedforward: Annotated[int, Field(ge=1, le=16)] = 2
    """Width of the perceptron of each layer in units of `width`, for ``encoder: transformer``."""
    harmonics: Annotated[int, Field(ge=1, le=256)] = 16
    """Sines and cosines of the time, with periods from the shortest distance of points to twice the length of a
    curve."""
    bins: Annotated[int, Field(ge=0, le=64)] = 8
    """Numbers into which each column of `data.features` and `data.statistics` is spread: how far it is through each of
    so many parts with equally many training curves. 0: one number, the column minus its median divided by its
    scatter."""
    hidden: list[Annotated[int, Field(ge=1)]] = [64]
    """Widths of the layers between encoder and labels."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout in all layers."""
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the numbers from `data.features` and `data.statistics` that a training step does not see."""
    early_days: Annotated[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(max_length=64)] | None = None
    """Days since the first point at which the report judges classes. If unset, eight times up to the length of a curve;
    an empty list switches it off."""
    labels: Labels = []
    """The columns to learn; at least one."""
