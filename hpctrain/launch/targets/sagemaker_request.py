"""The request of a run at Amazon SageMaker (``CreateTrainingJob``): pure functions from a plan to JSON values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hpctrain.launch.pod import INSIDE
from hpctrain.launch.targets.clouds import numbered_folders
from hpctrain.launch.targets.sagemaker import CHECKPOINTS, INPUT, RUN_FILES, SHARED

if TYPE_CHECKING:
    from hpctrain.launch.plan import JobPlan
    from hpctrain.profile.sections.sagemaker import SageMakerSection

Request = dict[str, Any]
_LONGEST_NAME = 63
_MOST_ATTEMPTS = 30


def job_name(plan: JobPlan, number: int = 1) -> str:
    """Return the name of the job: letters, digits and single hyphens, unique by the run id and the submission."""
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    words = [re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in (name, run_id)]
    end = f"-{words[1]}{f'-{number}' if number > 1 else ''}"
    return f"{words[0][: _LONGEST_NAME - len(end)].strip('-')}{end}"


def home_of(plan: JobPlan, facts: SageMakerSection) -> str:
    """Return the address in S3 of the copy of the run directory, as ``hpctrain pull`` takes it."""
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    return f"{_checkpoints_of(plan, facts)}/{name}/{run_id}"


def _checkpoints_of(plan: JobPlan, facts: SageMakerSection) -> str:
    return f"{str(facts.home).rstrip('/')}/{job_name(plan)}"


def run_dir_there(plan: JobPlan, facts: SageMakerSection) -> str:
    """Return the path of the run directory in the containers."""
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    folder = f"{INPUT}/{SHARED}" if facts.shared_files else CHECKPOINTS
    return f"{folder}/{name}/{run_id}"


def training_job(plan: JobPlan, facts: SageMakerSection) -> Request:
    """Return the request, with a channel for each folder of S3 that the data are in.

    Parameters
    ----------
    plan : JobPlan
    facts : SageMakerSection
    """
    folders = _channels_of_data(plan.data_files)
    channels = [_channel(channel, f"{folder}/", facts.input_mode) for folder, channel in folders.items()]
    request: Request = {
        "TrainingJobName": job_name(plan),
        "RoleArn": facts.role,
        "AlgorithmSpecification": {
            "TrainingImage": plan.options["image"],
            "TrainingInputMode": facts.input_mode,
            "ContainerEntrypoint": ["python3", "-u", "-m", "hpctrain.launch.pod"],
            "ContainerArguments": [run_dir_there(plan, facts), "--files", f"{INPUT}/{RUN_FILES}"],
        },
        "InputDataConfig": [
            _channel(RUN_FILES, f"{str(facts.home).rstrip('/')}/submitted/{job_name(plan)}/", "File"),
            *channels,
        ],
        "OutputDataConfig": {"S3OutputPath": f"{str(facts.home).rstrip('/')}/output"},
        "ResourceConfig": {
            "InstanceType": plan.options["instance_type"],
            "InstanceCount": plan.resources.nodes,
            "VolumeSizeInGB": facts.volume_gib,
        },
        "StoppingCondition": {
            "MaxRuntimeInSeconds": min(plan.time_limit_s * _attempts(plan), facts.longest_run_h * 3600)
        },
        "Environment": {"HPCTRAIN_JOB_ID": job_name(plan), INSIDE: "1", **plan.environment},
        "EnableManagedSpotTraining": bool(plan.options["spot"]),
        "EnableNetworkIsolation": facts.isolated,
        "EnableInterContainerTrafficEncryption": facts.encrypt_traffic,
    }
    if facts.shared_files:
        request["InputDataConfig"].append(_shared_channel(facts))
    else:
        request["CheckpointConfig"] = {"S3Uri": _checkpoints_of(plan, facts), "LocalPath": CHECKPOINTS}
    if plan.options["spot"]:
        stopping = request["StoppingCondition"]
        stopping["MaxWaitTimeInSeconds"] = max(facts.longest_wait_h * 3600, stopping["MaxRuntimeInSeconds"])
    if plan.requeue:
        request["RetryStrategy"] = {"MaximumRetryAttempts": min(max(1, plan.max_attempts - 1), _MOST_ATTEMPTS)}
    if facts.keep_warm_s and not plan.options["spot"]:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = facts.keep_warm_s
    if facts.volume_encryption:
        request["ResourceConfig"]["VolumeKmsKeyId"] = facts.volume_encryption
    if facts.output_encryption:
        request["OutputDataConfig"]["KmsKeyId"] = facts.output_encryption
    if facts.subnets:
        request["VpcConfig"] = {"Subnets": facts.subnets, "SecurityGroupIds": facts.security_groups}
    if facts.tags:
        request["Tags"] = [{"Key": key, "Value": value} for key, value in facts.tags.items()]
    return request


def folders_there(files: Iterable[str]) -> dict[str, str]:
    """Return the folder of the channel for each folder of S3."""
    return {folder: f"{INPUT}/{channel}" for folder, channel in _channels_of_data(files).items()}


def _channels_of_data(files: Iterable[str]) -> dict[str, str]:
    """Return the channel of each folder of S3."""
    return numbered_folders(name for name in files if name.startswith("s3://"))


def _attempts(plan: JobPlan) -> int:
    # SageMaker knows the limit of a job only; attempts follow each other in the same container.
    return plan.max_attempts if plan.requeue else 1


def _channel(name: str, address: str, mode: str) -> Request:
    source = {"S3DataType": "S3Prefix", "S3Uri": address, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _shared_channel(facts: SageMakerSection) -> Request:
    assert facts.shared_files is not None
    source = {
        "FileSystemId": facts.shared_files.id,
        "FileSystemType": facts.shared_files.type,
        "DirectoryPath": facts.shared_files.directory,
        "FileSystemAccessMode": "rw",
    }
    return {"ChannelName": SHARED, "DataSource": {"FileSystemDataSource": source}}
