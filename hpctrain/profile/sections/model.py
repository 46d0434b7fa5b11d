"""The ``model`` section, as far as it is the same for all model families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from hpctrain.plugins import DEFAULT_FAMILY
from hpctrain.profile.sections.base import Section

NETWORK_SHAPE = "the weights of the checkpoint have the shapes of this network"
"""Reason why a resumed run cannot change a key that sizes the network."""


class ModelSection(Section):
    """The model: what all families have in common."""

    fixed: ClassVar[Mapping[str, str]] = {"family": NETWORK_SHAPE}
    """Key to the reason why a resumed run cannot change it; a family adds its own."""
    pinned: ClassVar[tuple[str, ...]] = ()
    """Keys that the first attempt computes from the data where they are not set; they stay the same afterwards."""

    paths: ClassVar[tuple[str, ...]] = ()
    """Keys that hold a path, which a submission makes absolute."""

    family: Annotated[str, Field(min_length=1)] = DEFAULT_FAMILY
    """Name of the model family, or the dotted name of a module of yours that defines one."""
