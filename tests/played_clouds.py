"""What Vertex AI, Azure Machine Learning and SageMaker do with a job, played on this machine.

A job is what hpctrain has sent: command, variables, inputs and mounts of its containers are those of the request. The
rest is as the platforms document it: variables, folders, what is copied when, and how a container ends.

References
----------
Vertex AI: "Prepare training code", "Distributed training" (CLUSTER_SPEC), "Understand the training service",
"Use NFS mounts", reference of CustomJobSpec. Azure: "CLI (v2) command job YAML schema", "Access data in a job";
variables and folders also as in published dumps of jobs. SageMaker: "How Amazon SageMaker provides training
information", "Checkpoints in Amazon SageMaker", environment variables of sagemaker-training-toolkit.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from played_container import PlayedContainer

from hpctrain.launch.ranks import free_port


def vertex_job(
    sent: Mapping[str, Any], machines: Path, buckets: Path, nfs: Path, python: Path, variables: Mapping[str, str]
) -> list[PlayedContainer]:
    """Start the containers of a custom job: one for each replica, on machines with empty disks.

    Parameters
    ----------
    sent : mapping
        Specification of the custom job, as ``gcloud`` got it.
    machines : Path
        Folder for the disks of the machines.
    buckets : Path
        Folder with the buckets, which containers see at ``/gcs``.
    nfs : Path
        What the NFS server exports.
    python : Path
        Python of the image.
    variables : mapping
        What gives the machine access to the stores, as its service account does there.
    """
    pools = {f"workerpool{index}": pool for index, pool in enumerate(sent["workerPoolSpecs"])}
    port = free_port()
    cluster = {
        name: [f"cmle-training-{name}-0a1b2c-{index}:{port}" for index in range(int(pool["replicaCount"]))]
        for name, pool in pools.items()
    }
    hosts = [host.partition(":")[0] for replicas in cluster.values() for host in replicas]
    containers = []
    for name, pool in pools.items():
        spec = pool["containerSpec"]
        mounts = {"/gcs": buckets}
        mounts |= {f"/mnt/nfs/{mount['mountPoint']}": nfs for mount in pool.get("nfsMounts", [])}
        for index, address in enumerate(cluster[name]):
            task = {"type": name, "index": index, "trial": ""}
            rank = str(len(containers))
            platform = {
                "CLUSTER_SPEC": json.dumps({"cluster": cluster, "environment": "cloud", "task": task, "job": "{}"}),
                "TF_CONFIG": json.dumps({"cluster": cluster, "environment": "cloud", "task": task}),
                "CLOUD_ML_PROJECT_ID": "123456789012",
                "CLOUD_ML_JOB_ID": "345",
                "MASTER_ADDR": hosts[0],
                "MASTER_PORT": str(port),
                "RANK": rank,
                "WORLD_SIZE": str(len(hosts)),
                **_output_of_vertex(sent),
            }
            own = {variable["name"]: variable["value"] for variable in spec.get("env", [])}
            containers.append(
                PlayedContainer(
                    machines / rank,
                    address.partition(":")[0],
                    [*spec["command"], *spec["args"]],
                    {**platform, **variables, **own},
                    mounts,
                    python,
                    hosts,
                )
            )
    return containers


def _output_of_vertex(sent: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that Vertex AI sets for a job with a ``baseOutputDirectory``, and for no other one."""
    base = sent.get("baseOutputDirectory", {}).get("outputUriPrefix")
    folders = {"AIP_MODEL_DIR": "model", "AIP_CHECKPOINT_DIR": "checkpoints", "AIP_TENSORBOARD_LOG_DIR": "logs"}
    return {name: f"{base}/{folder}/" for name, folder in folders.items()} if base else {}


def azure_job(
    sent: Mapping[str, Any], machine: Path, inputs: Mapping[str, Path], python: Path, variables: Mapping[str, str]
) -> PlayedContainer:
    """Start the container of a command job on a machine with an empty disk.

    Parameters
    ----------
    sent : mapping
        The job, as ``az`` got it.
    machine : Path
        Folder for the disk.
    inputs : mapping
        Folder of this machine for the path of each input.
    python, variables
        As for :func:`vertex_job`.
    """
    folder = "/mnt/azureml/cr/j/89a01da5907f42a696e48d2e6a22c869"
    data, work_dir = f"{folder}/cap/data-capability/wd", f"{folder}/exe/wd"
    paths = {name: f"{data}/INPUT_{name}" for name in sent["inputs"]}
    mounts, set_by_azure = {}, {}
    for name, item in sent["inputs"].items():
        source = inputs[item["path"]]
        # The word of the profile and the documentation is the path in the command; the variable may be an id.
        set_by_azure[f"AZURE_ML_INPUT_{name}"] = f"azureml://locations/westeurope/data/{name}/versions/1"
        if item["mode"] == "ro_mount":
            mounts[f"{paths[name]}:ro"] = source
        else:
            copied = machine.with_name(f"{machine.name}-{name}")
            shutil.copytree(source, copied, dirs_exist_ok=True)
            mounts[paths[name]] = copied
    command = re.sub(r"\$\{\{inputs\.(\w+)\}\}", lambda found: paths[found[1]], sent["command"])
    platform = {
        "AZUREML_RUN_ID": sent["name"],
        "AZUREML_ROOT_RUN_ID": sent["name"],
        "AZUREML_ARM_SUBSCRIPTION": "01234567-89ab-cdef-0123-456789abcdef",
        "AZUREML_ARM_RESOURCEGROUP": "astro",
        "AZUREML_ARM_WORKSPACE_NAME": "spectra",
        "AZUREML_ARM_PROJECT_NAME": sent["experiment_name"],
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": work_dir,
        "AZUREML_CR_DATA_CAPABILITY_PATH": data,
        "MLFLOW_RUN_ID": sent["name"],
        "MLFLOW_TRACKING_URI": "azureml://westeurope.api.azureml.ms/mlflow/v1.0",
        "NODE_RANK": "0",
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": "6105",
        **set_by_azure,
    }
    own = sent["environment_variables"]
    shell = ["sh", "-c", command]
    return PlayedContainer(
        machine, "b8c2f0d1", shell, {**platform, **variables, **own}, mounts, python, work_dir=work_dir
    )


class SageMakerJob:
    """The container of a training job; its folder of checkpoints is copied to S3 all the time, and back at the start.

    Parameters
    ----------
    sent : mapping
        The request, as ``aws`` got it.
    machine : Path
        Folder for the disk.
    buckets : Path
        Folder with the buckets.
    """

    def __init__(self, sent: Mapping[str, Any], machine: Path, buckets: Path) -> None:
        kept = sent["CheckpointConfig"]
        self._bucket = buckets / kept["S3Uri"].removeprefix("s3://")
        self.checkpoints = machine.with_name(f"{machine.name}-checkpoints")
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.checkpoints.mkdir(parents=True)
        if self._bucket.exists():
            shutil.copytree(self._bucket, self.checkpoints, dirs_exist_ok=True)
        config = machine.with_name(f"{machine.name}-config")
        config.mkdir(exist_ok=True)
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        (config / "resourceconfig.json").write_text(json.dumps(hosts))
        channels = {
            item["ChannelName"]: buckets / item["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://")
            for item in sent["InputDataConfig"]
        }
        mounts = {"/opt/ml/input/config:ro": config, kept["LocalPath"]: self.checkpoints}
        mounts |= {f"/opt/ml/input/data/{name}:ro": folder for name, folder in channels.items()}
        toolkit = {"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1", "SM_CHANNELS": json.dumps(sorted(channels))}
        platform = {"TRAINING_JOB_NAME": sent["TrainingJobName"], "SM_MODEL_DIR": "/opt/ml/model", **toolkit}
        algorithm = sent["AlgorithmSpecification"]
        command = [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]
        self.container = PlayedContainer(machine, "algo-1", command, {**platform, **sent["Environment"]}, mounts)
        self._ended = threading.Event()
        self._copies = threading.Thread(target=self._copy, daemon=True)
        self._copies.start()

    def end(self) -> None:
        """Take the machine away: what is not in the bucket by now is lost."""
        self._ended.set()
        self._copies.join()

    def _copy(self) -> None:
        """Copy all the time, as the platform does, also files that are being written."""
        while not self._ended.wait(0.2):
            with contextlib.suppress(shutil.Error, OSError):  # files that vanish meanwhile
                shutil.copytree(self.checkpoints, self._bucket, dirs_exist_ok=True)


def read_job(folder: Path, name: str) -> dict[str, Any]:
    """Return the job that a pretended ``gcloud`` or ``az`` got under a name."""
    job: dict[str, Any] = yaml.safe_load((folder / "jobs" / name).read_text())
    return job
