"""Which node of a job a container is, in the words of each platform that starts one container per node.

======================  ==================================================================================
Plain Kubernetes Job    ``JOB_COMPLETION_INDEX``; our manifest adds ``HPCTRAIN_NODES`` and ``MASTER_ADDR``
Kubeflow TrainJob       ``PET_NODE_RANK``, ``PET_NNODES``, ``PET_MASTER_ADDR``, ``PET_MASTER_PORT``
Kubeflow PyTorchJob     ``RANK`` and ``WORLD_SIZE`` of containers, ``MASTER_ADDR``, ``MASTER_PORT``
SageMaker               ``/opt/ml/input/config/resourceconfig.json``
Vertex AI               ``CLUSTER_SPEC``
Azure ML                ``NODE_RANK``, ``MASTER_ADDR``, ``MASTER_PORT``; our job adds ``HPCTRAIN_NODES``
Ray                     our controller sets ``HPCTRAIN_NODE``, ``HPCTRAIN_NODES``, ``MASTER_ADDR``, ``MASTER_PORT``
======================  ==================================================================================

The ranks inside a container get torchrun's variables, which :mod:`hpctrain.distributed.world` reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpctrain.errors import SiteError

DEFAULT_PORT = 29500
"""Port of rank 0 where a platform names none: a container has all its ports to itself."""
RESOURCE_CONFIG = "/opt/ml/input/config/resourceconfig.json"
"""Where SageMaker says which hosts a job has."""
_OF_A_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class NodePlace:
    """The place of one container in its job.

    Parameters
    ----------
    node, num_nodes : int
        Number of this container, and how many the job has.
    main_address : str
        Host of container 0, as the others reach it.
    main_port : int
        Port on which rank 0 listens there.
    platform : str
        Whose words named the place; ``alone`` for a single container.
    """

    node: int = 0
    num_nodes: int = 1
    main_address: str = "127.0.0.1"
    main_port: int = DEFAULT_PORT
    platform: str = "alone"

    @property
    def is_main(self) -> bool:
        """Whether this container has rank 0."""
        return self.node == 0

    def variables(self, local_rank: int, ranks_per_node: int) -> dict[str, str]:
        """Return torchrun's variables of one rank of this container."""
        return {
            "RANK": str(self.node * ranks_per_node + local_rank),
            "WORLD_SIZE": str(self.num_nodes * ranks_per_node),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(ranks_per_node),
            "MASTER_ADDR": self.main_address,
            "MASTER_PORT": str(self.main_port),
        }


def node_place(environment: Mapping[str, str] = os.environ, resource_config: str = RESOURCE_CONFIG) -> NodePlace:
    """Read the place of this container from what its platform says.

    Parameters
    ----------
    environment : mapping
        Variables of the container.
    resource_config : str
        Path of SageMaker's description of the job.

    Raises
    ------
    SiteError
        A variable is missing or damaged, or the number of the container does not fit their count.
    """
    place = _found(environment, Path(resource_config))
    if not 0 <= place.node < place.num_nodes:
        raise SiteError(
            f"environment: container {place.node} does not fit a job of {place.num_nodes} ({place.platform}); the job "
            "asks for another number of nodes than launch.nodes of its profile"
        )
    # A single container needs no name service, which may know it late or not at all.
    return replace(place, main_address="127.0.0.1") if place.num_nodes == 1 else place


def without_place(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that would tell a rank another place than its own."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _OF_A_LAUNCHER and not name.startswith(("PET_", "SLURM_"))
    }


def _found(environment: Mapping[str, str], resource_config: Path) -> NodePlace:
    if "HPCTRAIN_NODE" in environment:  # first: a node of Ray may itself be a container of Kubernetes
        return _from("Ray", environment, "HPCTRAIN_NODE", "HPCTRAIN_NODES")
    if "PET_NNODES" in environment:
        return _from(
            "Kubeflow TrainJob", environment, "PET_NODE_RANK", "PET_NNODES", "PET_MASTER_ADDR", "PET_MASTER_PORT"
        )
    if "JOB_COMPLETION_INDEX" in environment:
        return _from("Kubernetes", environment, "JOB_COMPLETION_INDEX", "HPCTRAIN_NODES")
    if resource_config.exists():
        return _from_hosts(resource_config)
    if environment.get("CLUSTER_SPEC"):
        return _from_cluster_spec(environment)
    if "NODE_RANK" in environment:
        return _from("Azure ML", environment, "NODE_RANK", "HPCTRAIN_NODES")
    if "RANK" in environment:
        return _from("Kubeflow PyTorchJob", environment, "RANK", "WORLD_SIZE")
    return NodePlace()


def _from(
    platform: str,
    environment: Mapping[str, str],
    node: str,
    num_nodes: str,
    address: str = "MASTER_ADDR",
    port: str = "MASTER_PORT",
) -> NodePlace:
    count = _number(environment, num_nodes, platform)
    main = environment.get(address, "")
    if count > 1 and not main:
        raise SiteError(f"environment: {address} is not set, and {platform} has {count} containers")
    return NodePlace(
        _number(environment, node, platform),
        count,
        main or "127.0.0.1",
        _number(environment, port, platform) if environment.get(port) else DEFAULT_PORT,
        platform,
    )


def _from_hosts(path: Path) -> NodePlace:
    def read(config: Any) -> NodePlace:
        hosts = sorted(config["hosts"], key=_natural)  # any order will do that is the same in all containers
        return NodePlace(hosts.index(config["current_host"]), len(hosts), hosts[0], platform="SageMaker")

    return _parsed(str(path), path.read_text(encoding="utf-8"), read)


def _natural(host: str) -> tuple[str, int]:
    stem, _, number = host.rpartition("-")
    return (stem, int(number)) if number.isdigit() else (host, 0)


def _from_cluster_spec(environment: Mapping[str, str]) -> NodePlace:
    def read(spec: Any) -> NodePlace:
        # The first pool has one container, the chief; the second has the others.
        pools = sorted(spec["cluster"])
        hosts = [host for pool in pools for host in spec["cluster"][pool]]
        earlier = sum(len(spec["cluster"][pool]) for pool in pools if pool < spec["task"]["type"])
        address, _, port = hosts[0].partition(":")
        number = int(port) if port.isdigit() else DEFAULT_PORT
        return NodePlace(earlier + int(spec["task"]["index"]), len(hosts), address, number, "Vertex AI")

    return _parsed("environment: CLUSTER_SPEC", environment["CLUSTER_SPEC"], read)


def _parsed(where: str, text: str, read: Callable[[Any], NodePlace]) -> NodePlace:
    try:
        return read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise SiteError(f"{where}: does not say which containers the job has ({error!r}): {text[:200]}") from None


def _number(environment: Mapping[str, str], name: str, platform: str) -> int:
    text = environment.get(name, "")
    if not text.isdigit():
        raise SiteError(f"environment: {name}={text!r} is not a number; {platform} or the job's manifest has to set it")
    return int(text)
