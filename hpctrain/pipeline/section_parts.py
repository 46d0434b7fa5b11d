"""Parts of a stage's section: how a training starts from a registered version, and what makes one worthwhile."""

# ruff: noqa: RUF012  (pydantic copies the defaults of its fields)

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from hpctrain.expectations.section import Share
from hpctrain.profile.sections.base import Line, Name, PathText, Section, SlurmWord, TimeLimit

StageWord = Annotated[str, Field(min_length=1, max_length=10_000)]


class StageLaunchSection(Section):
    """What the job of one stage asks of the queue; a stage that trains takes ``launch`` of its profile."""

    time_limit: TimeLimit = "01:00:00"
    """Time limit of one attempt."""
    cpus: Annotated[int, Field(ge=1, le=512)] = 1
    """CPU cores."""
    memory_gib: Annotated[float, Field(gt=0, le=16384)] | None = None
    """Memory [GiB]; if unset, the partition's default."""
    partition: SlurmWord | None = None
    """Slurm partition, instead of that of the pipeline."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs."""


class StartSection(Section):
    """The weights that a network starts from; a text alone means `weights`."""

    weights: Line
    """A registered version such as ``registry:photoz@champion``, or a run. Where the alias does not exist yet, the
    training starts from scratch."""
    set: list[StageWord] = []
    """Changes of the profile that count only if there are weights to start from, such as
    ``train.learning_rate=1e-4``."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"weights": value} if isinstance(value, str) else value


class ReplayPart(Section):
    """Old data to train on again, beside the new ones."""

    share: Annotated[float, Field(ge=0, le=1)]
    """Share of the old training objects, chosen by the hash of the identifier. Old are those that the version in
    service, or one before it, has seen."""
    data: list[PathText] = []
    """Files or patterns of old data, which are added to ``data.files``."""
    model: Name | None = None
    """Name in the registry, if it is not that of the other stages."""


class DriftPart(Section):
    """Train only if the new data differ from those of the version in service."""

    distance: Share = 0.05
    """Smallest difference of the cumulative shares of a column (Kolmogorov-Smirnov) that counts."""
    psi: Annotated[float, Field(ge=0)] = 0.2
    """Smallest population stability index that counts."""
    enough: Annotated[int, Field(ge=1)] | None = None
    """With so many new objects, train without drift, too."""
