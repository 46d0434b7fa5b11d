"""The ``sagemaker`` section of a site: what a group has at Amazon, and its administrators know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import Line, Section, Switch

S3Address = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\n]*)?$")]
KeyId = Annotated[str, Field(min_length=1, max_length=2048)]


class SharedFilesSection(Section):
    """A file system that all machines of a job see: FSx for Lustre or EFS."""

    id: Annotated[str, Field(pattern=r"^fs-[0-9a-f]{8,}$")]
    """Id of the file system."""
    type: Literal["FSxLustre", "EFS"] = "FSxLustre"
    """Its type."""
    directory: Annotated[str, Field(pattern=r"^/")]
    """Folder of it for runs, such as ``/fsx/runs``."""


class SageMakerSection(Section):
    """One account of Amazon SageMaker."""

    role: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")] | None = None
    """ARN of the role that jobs have; it must read the data and write to `home`."""
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    """Region; if unset, that of the environment."""
    profile: Line | None = None
    """Named profile of the ``aws`` command."""
    home: S3Address | None = None
    """Where runs are kept: SageMaker copies the run directory there while it trains, and back after an interruption."""
    image: Line | None = None
    """Container image with hpctrain in the registry of the account (ECR), for profiles that name none."""
    volume_gib: Annotated[int, Field(ge=1, le=16384)] = 100
    """Disk of each machine [GiB]."""
    input_mode: Literal["File", "FastFile"] = "FastFile"
    """How data come from S3: all of them before the start, or as they are read."""
    subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$")]] = []
    """Subnets of a private network, for jobs that may use nothing else."""
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-z]+$")]] = []
    """Security groups in that network."""
    output_encryption: KeyId | None = None
    """Id of the key that encrypts what the job writes."""
    volume_encryption: KeyId | None = None
    """Id of the key that encrypts the disks."""
    encrypt_traffic: Switch = False
    """Encrypt what ranks on several machines send each other; this is slower."""
    isolated: Switch = False
    """Give the container no network at all."""
    keep_warm_s: Annotated[int, Field(ge=0, le=3600)] = 0
    """Keep the machines for so long after a job [s], so that the next one of the same shape starts at once."""
    longest_run_h: Annotated[int, Field(ge=1, le=672)] = 120
    """Longest time of a job [h]: the quota of the account, which is five days unless Amazon has raised it."""
    longest_wait_h: Annotated[int, Field(ge=1, le=672)] = 72
    """Longest time of a job with ``launch.spot``, interruptions included [h]."""
    shared_files: SharedFilesSection | None = None
    """File system for the run directory; jobs of several machines need one."""
    tags: dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=256)]] = {}
    """Tags of every job, such as a cost centre."""
