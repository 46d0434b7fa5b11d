"""A container finds out which node of its job it is, in the words of each platform."""

from __future__ import annotations

import json

import pytest

from hpctrain.distributed.containers import NodePlace, node_place, without_place
from hpctrain.errors import SiteError

POOLS = {"workerpool0": ["chief-0:2222"], "workerpool1": ["worker-0:2222", "worker-1:2222"]}
WORDS = {
    "Kubernetes": {"JOB_COMPLETION_INDEX": "2", "HPCTRAIN_NODES": "3", "MASTER_ADDR": "vae-0.vae"},
    "Kubeflow TrainJob": {
        "PET_NODE_RANK": "2",
        "PET_NNODES": "3",
        "PET_MASTER_ADDR": "vae-0.vae",
        "PET_MASTER_PORT": "29400",
        "PET_NPROC_PER_NODE": "4",
    },
    "Kubeflow PyTorchJob": {"RANK": "2", "WORLD_SIZE": "3", "MASTER_ADDR": "vae-0.vae", "MASTER_PORT": "23456"},
    "Vertex AI": {"CLUSTER_SPEC": json.dumps({"cluster": POOLS, "task": {"type": "workerpool1", "index": 1}})},
    "Azure ML": {"NODE_RANK": "2", "HPCTRAIN_NODES": "3", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "6105"},
    "Ray": {"HPCTRAIN_NODE": "2", "HPCTRAIN_NODES": "3", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "6105"},
}


@pytest.mark.parametrize("platform", WORDS)
def test_the_words_of_a_platform_name_the_node(platform, tmp_path):
    place = node_place(WORDS[platform], str(tmp_path / "none.json"))
    assert (place.node, place.num_nodes, place.platform) == (2, 3, platform)
    assert place.main_address in ("vae-0.vae", "chief-0", "10.0.0.4")
    assert not place.is_main


def test_the_hosts_of_sagemaker_are_numbered_alike_in_all_containers(tmp_path):
    hosts = [f"algo-{number}" for number in range(1, 12)]
    found = []
    for host in hosts:
        path = tmp_path / f"{host}.json"
        path.write_text(json.dumps({"current_host": host, "hosts": hosts[::-1], "network_interface_name": "eth0"}))
        found.append(node_place({}, str(path)))
    assert [place.node for place in found] == list(range(11))
    assert {place.main_address for place in found} == {"algo-1"}


def test_a_container_without_words_is_the_only_one(tmp_path):
    assert node_place({}, str(tmp_path / "none.json")) == NodePlace()


def test_ranks_get_the_variables_of_torchrun_and_no_others():
    place = NodePlace(1, 2, "vae-0.vae", 29400, "Kubernetes")
    assert place.variables(3, 4) == {
        "RANK": "7",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "3",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "vae-0.vae",
        "MASTER_PORT": "29400",
    }
    assert without_place({"HOME": "/home", **WORDS["Kubeflow TrainJob"], **WORDS["Kubeflow PyTorchJob"]}) == {
        "HOME": "/home"
    }


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"JOB_COMPLETION_INDEX": "0"}, "HPCTRAIN_NODES"),
        ({"JOB_COMPLETION_INDEX": "3", "HPCTRAIN_NODES": "3", "MASTER_ADDR": "a"}, "container 3"),
        ({"JOB_COMPLETION_INDEX": "1", "HPCTRAIN_NODES": "3"}, "MASTER_ADDR"),
        ({"CLUSTER_SPEC": '{"cluster": {}}'}, "CLUSTER_SPEC"),
        ({"CLUSTER_SPEC": "[]"}, "CLUSTER_SPEC"),
    ],
)
def test_damaged_words_are_named(variables, named, tmp_path):
    with pytest.raises(SiteError, match=named):
        node_place(variables, str(tmp_path / "none.json"))


def test_a_damaged_description_of_sagemaker_is_named(tmp_path):
    path = tmp_path / "resourceconfig.json"
    path.write_text('{"hosts": ["algo-1"], "current_host": "algo-2"}')
    with pytest.raises(SiteError, match=r"resourceconfig\.json"):
        node_place({}, str(path))
