"""The ``prices`` section of a site: what an hour of its machines costs, and how often spot machines are taken back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hpctrain.profile.sections.base import Section, SlurmWord

Money = Annotated[float, Field(ge=0, le=1e6)]


class PriceSection(Section):
    """What one kind of machine costs; what is charged for GPUs, cores and nodes is added up."""

    gpu_hour: Money | None = None
    """Price of one GPU for one hour."""
    core_hour: Money | None = None
    """Price of one CPU core for one hour."""
    node_hour: Money | None = None
    """Price of one whole machine for one hour."""
    spot_gpu_hour: Money | None = None
    """Price of one GPU for one hour with ``launch.spot``."""
    spot_node_hour: Money | None = None
    """Price of one whole machine for one hour with ``launch.spot``."""
    interruptions_per_hour: Annotated[float, Field(ge=0, le=60)] | None = None
    """How often the owner takes one spot machine back."""
    warning_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Time between the warning and the end of a spot machine [s]."""

    @model_validator(mode="after")
    def _has_a_price(self) -> PriceSection:
        if self.gpu_hour is None and self.core_hour is None and self.node_hour is None:
            raise ValueError("has no price; give gpu_hour, core_hour or node_hour")
        return self


class PricesSection(Section):
    """The price list of a site."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    """Currency of all prices, three letters such as EUR or USD."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """Day of these prices, such as 2026-11-01; it is printed beside every sum."""
    partitions: dict[SlurmWord, PriceSection] = {}
    """Prices of partitions by name."""
    instance_types: dict[SlurmWord, PriceSection] = {}
    """Prices of the machines of managed clouds by type, such as ``ml.g5.12xlarge``."""
