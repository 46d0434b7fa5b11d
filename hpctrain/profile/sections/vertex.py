"""The ``vertex`` section of a site: what a group has at Google Cloud."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpctrain.profile.sections.base import Line, Section, Switch


class NfsSection(Section):
    """A file system that all machines of a job see."""

    server: Line
    """Address of the server, such as a Filestore instance."""
    export: Annotated[str, Field(pattern=r"^/")]
    """Path that the server exports."""
    mounted_as: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")] = "nfs"
    """Name below ``/mnt/nfs`` in the containers."""


class VertexSection(Section):
    """One project of Google Cloud, for custom jobs of Vertex AI."""

    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")] | None = None
    """Project; if unset, that of the ``gcloud`` command."""
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d$")] | None = None
    """Region, such as ``europe-west4``."""
    home: Annotated[str, Field(pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^\n]*)?$")] | None = None
    """Where the files of submissions go; containers see it below ``/gcs``."""
    image: Line | None = None
    """Container image with hpctrain, for profiles that name none."""
    service_account: Annotated[str, Field(pattern=r"^\S+@\S+\.gserviceaccount\.com$")] | None = None
    """Service account of the jobs."""
    network: Line | None = None
    """Full name of the network for jobs that may use no other; NFS needs one."""
    encryption: Line | None = None
    """Full name of the key that encrypts the job."""
    disk_gib: Annotated[int, Field(ge=100, le=64000)] = 200
    """Disk of each machine [GiB]."""
    nfs: NfsSection | None = None
    """File system for the run directory; jobs of several machines need one."""
    restart_on_failure: Switch = True
    """Let Vertex AI start the whole job again when a machine is lost or a container fails."""
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], Annotated[str, Field(max_length=63)]] = {}
    """Labels of every job."""
