"""The ``azureml`` section of a site: the workspace of a group at Azure Machine Learning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpctrain.profile.sections.base import Line, Section


class AzureMLSection(Section):
    """One workspace of Azure Machine Learning."""

    subscription: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")] | None = None
    """Subscription; if unset, that of the ``az`` command."""
    resource_group: Line | None = None
    """Resource group of the workspace; if unset, the default of the ``az`` command."""
    workspace: Line | None = None
    """Name of the workspace; if unset, the default of the ``az`` command."""
    compute: dict[Annotated[str, Field(pattern=r"^Standard_\w+$")], Line] = {}
    """Name of the compute cluster for each size of machines; a size without one runs on serverless compute."""
    spot_compute: dict[Annotated[str, Field(pattern=r"^Standard_\w+$")], Line] = {}
    """The same for ``launch.spot``: clusters of low priority."""
    image: Line | None = None
    """Container image with hpctrain, for profiles that name none."""
    experiment: Line = "hpctrain"
    """Experiment under which the studio lists the jobs."""
    tags: dict[Line, Line] = {}
    """Tags of every job."""
