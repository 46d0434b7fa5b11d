"""The ``ray`` section of a site: the facts of a Ray cluster that runs already."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpctrain.profile.sections.base import Section

Address = Annotated[
    str, Field(pattern=r"^(auto|(ray://)?[A-Za-z0-9.-]+:\d{1,5}|https?://[A-Za-z0-9.-]+(:\d{1,5})?/?)$")
]
"""Where a Ray cluster answers."""
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:.-]{0,99}$")]
"""Names of Ray's custom resources."""


class RaySection(Section):
    """One Ray cluster, which others have started."""

    address: Address = "auto"
    """``auto`` (the cluster that this machine belongs to), ``HOST:6379`` (by its head, from a node of it),
    ``ray://HOST:10001`` (Ray's client, from elsewhere) or ``http://HOST:8265`` (Ray Jobs, from elsewhere)."""
    wait_s: Annotated[float, Field(ge=0, le=86400)] = 60
    """How long an attempt waits for all its nodes before it goes on with fewer [s]; see ``launch.min_nodes``."""
    resources: dict[ResourceName, Annotated[float, Field(gt=0)]] = {}
    """Further resources of Ray that each node must have, such as ``accelerator_type:A100: 0.001``; the profile itself
    asks for CPUs, GPUs and memory."""
