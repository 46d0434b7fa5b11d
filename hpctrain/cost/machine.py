"""What an attempt ran on: how many nodes, GPUs and cores of which partition or instance type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpctrain.errors import HpctrainError
from hpctrain.profile.platforms import PLATFORMS, find_platform
from hpctrain.profile.site import Site, load_site
from hpctrain.profile.targets import is_on_this_machine
from hpctrain.profile.yaml_text import parse_yaml
from hpctrain.records import Record, is_count, is_text
from hpctrain.rundir import RunDir


@dataclass(frozen=True)
class Machine:
    """The machines of one attempt, all nodes together.

    Parameters
    ----------
    nodes : int
    gpus, cores : float
        Those of all nodes that the job had.
    site, partition, instance_type : str or None
        Their names in the profile; the partition is the default one of the site if the profile names none.
    platform : str or None
        Kind of the GPUs, a name of :data:`~hpctrain.profile.platforms.PLATFORMS`, or ``cpu``.
    is_spot : bool
        Whether its owner may take it back.
    """

    nodes: int
    gpus: float
    cores: float
    site: str | None = None
    partition: str | None = None
    instance_type: str | None = None
    platform: str | None = None
    is_spot: bool = False


def machine_of(profile: Mapping[str, Any], lease: Record, cluster: str, device: str, site: Site | None) -> Machine:
    """Return the machines of an attempt.

    Parameters
    ----------
    profile : mapping
        Plain values of the profile that the attempt has read; damaged ones count as missing.
    lease : dict
        Record of the attempt, for the number of its ranks and nodes.
    cluster : str
        Name of the target, as ``job.json`` has it.
    device : str
        Name of the device as the attempt has recorded it; empty if it has not.
    site : Site or None
    """
    launch = _section(profile, "launch")
    nodes = lease.get("num_nodes") or _count(launch, "nodes", 1)
    gpus_per_node = _count(launch, "gpus_per_node", 0 if not launch else 1)
    ranks_per_node = _count(launch, "ranks_per_node", 0) or max(1, gpus_per_node)
    ranks = lease.get("world_size") or nodes * ranks_per_node
    gpus = ranks * gpus_per_node / ranks_per_node
    if device.lower().startswith("cpu") and (not cluster or is_on_this_machine(cluster)):
        gpus = 0.0  # the profile asks for GPUs, but this machine has none
    partition = _text(launch, "partition") or (site.default_partition if site else None)
    known = site.partitions.get(partition) if site and partition else None
    platform = _text(profile, "platform") or (known.platform if known else None) or platform_of(device)
    found = find_platform(platform) if platform else None
    return Machine(
        nodes,
        gpus,
        ranks * float(_count(launch, "cpus_per_rank", 1)),
        _text(launch, "site"),
        partition,
        _text(launch, "instance_type"),
        "cpu" if not gpus else (found.name if found else None),
        launch.get("spot") is True,
    )


def platform_of(device: str) -> str | None:
    """Return the name of the platform that a driver calls `device`, such as ``NVIDIA A100-SXM4-40GB``."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    for name in sorted(PLATFORMS, key=len, reverse=True):
        parts = name.split("-")
        if all(any(word == part or (part.isdigit() and word == f"{part}gb") for word in words) for part in parts):
            return name
    by_alias = (find_platform(word) for word in words)
    return next((found.name for found in by_alias if found is not None), None)


def profile_of_run(run: RunDir) -> Record:
    """Return the plain values of the profile of a run; none if it is missing or damaged."""
    try:
        found = parse_yaml(run.profile.read_text(encoding="utf-8", errors="replace"), "profile.yaml").data
    except (OSError, HpctrainError):
        return {}
    return found if isinstance(found, dict) else {}


def site_of(profile: Mapping[str, Any]) -> tuple[Site | None, str]:
    """Return the site of a profile, and why there is none."""
    name = _text(_section(profile, "launch"), "site")
    if name is None:
        return None, "the profile names no site (launch.site)"
    try:
        return load_site(name), ""
    except HpctrainError as error:
        return None, str(error).splitlines()[0]


def _section(profile: Mapping[str, Any], name: str) -> Record:
    found = profile.get(name)
    return found if isinstance(found, dict) else {}


def _count(section: Record, key: str, missing: int) -> int:
    value = section.get(key)
    return value if is_count(value) else missing


def _text(section: Mapping[str, Any], key: str) -> str | None:
    value = section.get(key)
    return value if is_text(value) and value else None
