"""Facts of a cluster: partitions and their limits, modules, environment. All runs share one YAML file per site.

A profile describes one run and names its site. The maintainer of a site file need not know the runs.
"""

# ruff: noqa: RUF012  (pydantic copies the defaults of its fields)

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationError

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.profile.document import sort_problems
from hpctrain.profile.explain import explain
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.reading import read_plain
from hpctrain.profile.sbatch_options import refusal
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.profile.sections.azureml import AzureMLSection
from hpctrain.profile.sections.base import (
    AccessName,
    GroupName,
    Line,
    Name,
    SbatchOptions,
    Section,
    SlurmWord,
    TimeLimit,
)
from hpctrain.profile.sections.budget import BudgetSection
from hpctrain.profile.sections.kubernetes import KubernetesSection
from hpctrain.profile.sections.prices import PricesSection
from hpctrain.profile.sections.ray import RaySection
from hpctrain.profile.sections.sagemaker import SageMakerSection
from hpctrain.profile.sections.vertex import VertexSection
from hpctrain.shipped import shipped


class Partition(Section):
    """Limits of one partition; a limit that is absent is not checked."""

    max_time: TimeLimit | None = None
    """Longest time limit: HH:MM:SS, D-HH:MM:SS or minutes."""
    max_nodes: Annotated[int, Field(ge=1)] | None = None
    """Largest number of nodes of one job."""
    gpus_per_node: Annotated[int, Field(ge=0)] | None = None
    """GPUs in each node."""
    gpu_type: SlurmWord | None = None
    """Type of these GPUs as Slurm names it, such as ``a100``."""
    platform: Name | None = None
    """Name of these GPUs in ``hpctrain platforms``; used to check memory if the profile names no platform."""
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Host memory of each node that jobs can ask for [GiB]."""
    cores: Annotated[int, Field(ge=1)] | None = None
    """CPU cores of each node that jobs can ask for, as Slurm counts them."""


class Site(Section):
    """One cluster."""

    description: Line = ""
    """Name and place of the cluster."""
    partitions: dict[SlurmWord, Partition] = {}
    """The partitions and their limits."""
    default_partition: SlurmWord | None = None
    """Partition for profiles that name none; if unset, the cluster's own default."""
    gpu_option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """Option that requests GPUs: ``--gpus-per-node=4`` or ``--gres=gpu:4``."""
    gpu_type: SlurmWord | None = None
    """GPU type in that option (``gpu:a100:4``), for clusters that require one."""
    modules: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+/-]*$")]] = []
    """Modules to load before training."""
    environment: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Line | int | float] = {}
    """Variables of every rank, such as ``NCCL_SOCKET_IFNAME``."""
    setup: list[Line] = []
    """Shell lines that the job runs on the first node before the ranks start; they are not checked."""
    container: Line | None = None
    """Command in front of the trainer, such as ``apptainer exec --nv image.sif``."""
    share_provenance: bool = False
    """Let everybody who may read a run directory read its ``provenance.json``, which holds uncommitted changes of the
    user's code. By default only its owner may."""
    access: AccessName | None = None
    """Who may use the files of runs whose profile does not say it (``launch.access``)."""
    group: GroupName | None = None
    """POSIX group for ``access: group``, of runs whose profile names none."""
    sbatch: SbatchOptions = {}
    """sbatch options by their long names, for all jobs; those of a profile override them."""
    prices: PricesSection | None = None
    """What an hour of these machines costs."""
    carbon_g_per_kwh: Annotated[float, Field(ge=0, le=2000)] | None = None
    """CO2 that a kilowatt-hour of electricity stands for at this place [g/kWh]."""
    budget: BudgetSection | None = None
    """The most that any one run may cost here, beside the budget of its profile."""
    alerts: AlertsSection = AlertsSection()
    """Alerts of runs here: values that a profile's ``monitor.alerts`` does not set itself."""
    kubernetes: KubernetesSection = KubernetesSection()
    """Facts of a Kubernetes cluster."""
    sagemaker: SageMakerSection = SageMakerSection()
    """Facts of an account of Amazon SageMaker."""
    vertex: VertexSection = VertexSection()
    """Facts of a project of Google Cloud, for Vertex AI."""
    azureml: AzureMLSection = AzureMLSection()
    """Facts of a workspace of Azure Machine Learning."""
    ray: RaySection = RaySection()
    """Facts of a Ray cluster."""

    _source: str = PrivateAttr("")

    @property
    def source(self) -> str:
        """File of these facts."""
        return self._source

    def partition_for(self, name: str | None) -> Partition | None:
        """Return the limits of a partition, or of the default one; None if the site file does not list it."""
        chosen = name or self.default_partition
        return None if chosen is None else self.partitions.get(chosen)


def site_folders() -> list[Path]:
    """Return the folders that may hold site files; earlier ones have precedence."""
    folders = [
        Path.home() / ".config" / "hpctrain" / "sites",
        shipped("slurm/sites"),
        Path(sys.prefix) / "share" / "hpctrain" / "sites",
    ]
    own = os.environ.get("HPCTRAIN_SITES")
    return [Path(own), *folders] if own else folders


def list_sites() -> dict[str, Path]:
    """Return the file of every site."""
    found: dict[str, Path] = {}
    for folder in site_folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load_site(name: str) -> Site:
    """Return the facts of a site.

    Parameters
    ----------
    name : str
        Name of the file, without ``.yaml``.

    Raises
    ------
    SiteError
        There is no such site, or its file is wrong; the message names the lines.
    """
    sites = list_sites()
    if name not in sites:
        folders = ", ".join(str(folder) for folder in site_folders())
        raise SiteError(f"there is no site '{name}'{did_you_mean(name, sites)} (looked in {folders})")
    try:
        document = read_plain(sites[name])
        site = Site.model_validate(document.data)
    except ProfileError as error:
        raise SiteError(str(error)) from None
    except ValidationError as error:
        document.problems += explain(error, document, Site)[0]
    else:
        document.problems += _inconsistencies(site)
    if document.problems:
        raise SiteError(str(ProfileError(document.source, sort_problems(document.problems))))
    site._source = _short(sites[name])
    return site


def _inconsistencies(site: Site) -> list[Problem]:
    reserved = {option: refusal(option, is_site=True) for option in site.sbatch}
    problems = [Problem(f"sbatch.{option}", message) for option, message in reserved.items() if message]
    default = site.default_partition
    if default is not None and site.partitions and default not in site.partitions:
        near = did_you_mean(default, site.partitions)
        problems.append(Problem("default_partition", f"'{default}' is not one of partitions{near}"))
    return problems


def _short(path: Path) -> str:
    """Return the path as a user would type it in the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
