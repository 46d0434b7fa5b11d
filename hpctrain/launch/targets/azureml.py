"""Azure Machine Learning: a run becomes one command job; the ``az`` command sends it with the files of the run.

The machines of a job share no file system with locks and renames. So a run uses one machine, lives on its disk, and has
a mirror. Data are inputs of the job; the command of the job puts their folders into variables
(``AZURE_ML_INPUT_...``), which ``data.files`` may name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpctrain.errors import Problem
from hpctrain.launch.pod import INSIDE
from hpctrain.launch.targets.clouds import (
    CloudTarget,
    call,
    error_of,
    instance_problems,
    needs_a_mirror,
    number_of_submission,
    numbered_folders,
    required,
    send_checkpoint,
    site_of_run,
    texts_of,
    what_only_slurm_does,
    with_data_files,
)
from hpctrain.launch.targets.target import JobState
from hpctrain.rundir import RunDir
from hpctrain.states import CANCELLED, FAILED, FINISHED, PENDING, RUNNING, UNKNOWN
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan
    from hpctrain.profile.sections.azureml import AzureMLSection
    from hpctrain.profile.site import Site

JOB = "azureml.yaml"
FILES = "azureml-files"
"""Folder beside the job with the files that the ``az`` command sends along."""
SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
_REMOTE = re.compile(r"^(azureml|abfss|wasbs|https)://")
_INPUT = "AZURE_ML_INPUT_"
_LONGEST_JOB_S = 7 * 86400
_STATES = {
    "NotStarted": PENDING,
    "Queued": PENDING,
    "Preparing": PENDING,
    "Provisioning": PENDING,
    "Starting": PENDING,
    "Running": RUNNING,
    "Finalizing": RUNNING,
    "Completed": FINISHED,
    "Failed": FAILED,
    "NotResponding": RUNNING,
    "CancelRequested": CANCELLED,
    "Canceled": CANCELLED,
}


class AzureMLTarget(CloudTarget):
    """Command jobs of Azure Machine Learning, in the workspace of the ``az`` command or of the site."""

    name = "azureml"
    title = "Azure"
    command = "az"
    requeues: Literal["script", "supervisor", "platform"] = "supervisor"

    def answers(self) -> bool:
        """Return whether somebody is logged in."""
        return self.is_available() and call("az", "account", "show", "--output", "json").returncode == 0

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what Azure Machine Learning could not do with the plan."""
        problems = instance_problems(self.name, plan, "Standard_NC24ads_A100_v4")
        if plan.resources.nodes > 1:
            message = (
                f"{plan.resources.nodes} machines share no file system that a run directory could be on; use one with "
                "more GPUs, or kubernetes on AKS"
            )
            problems.append(Problem("launch.nodes", message))
        return problems + needs_a_mirror(plan) + what_only_slurm_does(plan)

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the job as YAML."""
        return {JOB: _as_yaml(command_job(plan, _facts(plan)))}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Ask who would send the job; Azure itself checks one only when it takes it."""
        said = json.loads(required(call("az", "account", "show", "--output", "json"), "az"))
        return [f"az: {printable(str(said.get('name')))}"]

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Write the files that go along, and send the job with them."""
        import yaml

        facts, run = _facts(plan), Path(plan.run_dir)
        job = yaml.safe_load(files[JOB].read_text(encoding="utf-8"))
        if (number := number_of_submission(run)) > 1:
            job["name"] = job["environment_variables"]["HPCTRAIN_JOB_ID"] = f"{job['name']}-{number}"
        texts = texts_of(run)
        texts["profile.yaml"] = with_data_files(texts["profile.yaml"], _folders_there)
        send_checkpoint(RunDir(run), plan.mirror)
        files[JOB].write_text(_as_yaml(job), encoding="utf-8")
        folder = run / FILES
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        command = ["az", "ml", "job", "create", "--file", str(files[JOB]), "--output", "json", *_workspace(facts)]
        said = json.loads(required(call(*command), "Azure Machine Learning refuses the job"))
        return [str(said["name"])]

    def state(self, job: Job) -> JobState:
        """Ask the workspace for the status of the job."""
        if not self.is_available():
            return JobState(silent=("there is no az command here",))
        done = call("az", "ml", "job", "show", "--name", job.id, "--output", "json", *_workspace(_facts_of(job)))
        if done.returncode != 0:
            return JobState(UNKNOWN, "az", silent=(error_of(done),))
        status = str(json.loads(done.stdout).get("status"))
        return JobState(_STATES.get(status, UNKNOWN), "az", words=status)

    def cancel(self, job: Job) -> str:
        """Stop the job; its ranks get TERM and save."""
        self.refuse_if_foreign(job, JOB)
        required(call("az", "ml", "job", "cancel", "--name", job.id, *_workspace(_facts_of(job))), "Azure refuses")
        return f"job {job.id} stops; its ranks save and exit"


TARGET = AzureMLTarget


def command_job(plan: JobPlan, facts: AzureMLSection) -> dict[str, Any]:
    """Return a command job in the words of the ``az`` command: a pure function.

    Parameters
    ----------
    plan : JobPlan
    facts : AzureMLSection
    """
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    size, is_spot = str(plan.options["instance_type"]), bool(plan.options["spot"])
    compute = (facts.spot_compute if is_spot else facts.compute).get(size)
    attempts = plan.max_attempts if plan.requeue else 1
    folders = _inputs_of_data(plan.data_files)
    data = {key: {"type": "uri_folder", "path": f"{folder}/", "mode": "ro_mount"} for folder, key in folders.items()}
    job: dict[str, Any] = {
        "$schema": SCHEMA,
        "type": "command",
        "name": re.sub(r"[^A-Za-z0-9_-]", "-", f"{name}-{run_id}"),
        "display_name": name,
        "experiment_name": facts.experiment,
        "command": _command(f"/tmp/runs/{name}/{run_id}", data),
        "environment": {"image": plan.options["image"]},
        "environment_variables": {
            "HPCTRAIN_JOB_ID": f"{name}-{run_id}",
            "HPCTRAIN_NODES": "1",  # Azure may set NODE_RANK, and says nowhere how many there are
            INSIDE: "1",
            **plan.environment,
        },
        "inputs": {"run_files": {"type": "uri_folder", "path": f"./{FILES}", "mode": "download"}, **data},
        "resources": {"instance_count": 1, "shm_size": "8g"},
        "limits": {"timeout": min(plan.time_limit_s * attempts, _LONGEST_JOB_S)},
    }
    if compute is not None:
        job["compute"] = f"azureml:{compute}"
    else:
        job["resources"]["instance_type"] = size
        job["queue_settings"] = {"job_tier": "spot" if is_spot else "standard"}
    if facts.tags:
        job["tags"] = dict(facts.tags)
    return job


def _command(run_dir: str, data: Iterable[str]) -> str:
    """Return the command line of the job, which a shell of Azure runs.

    With ``exec`` the shell becomes our process, so that a signal for it reaches us. Azure documents that it replaces
    ``${{inputs.NAME}}`` by a path, and does not document the variables for inputs that it sets itself.
    """
    folders = "".join(f"{_INPUT}{name}=${{{{inputs.{name}}}}} " for name in data)
    start = f"exec env {folders}" if folders else "exec "
    return f"{start}python3 -u -m hpctrain.launch.pod {run_dir} --files ${{{{inputs.run_files}}}}"


def _folders_there(files: Iterable[str]) -> dict[str, str]:
    """Return the variable with the folder in the container, in words of a profile, for each remote folder."""
    return {folder: f"${{{_INPUT}{key}}}" for folder, key in _inputs_of_data(files).items()}


def _inputs_of_data(files: Iterable[str]) -> dict[str, str]:
    """Return the input of each remote folder."""
    return numbered_folders(name for name in files if _REMOTE.match(name))


def _as_yaml(job: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(job, sort_keys=False, width=200)
    return text


def _workspace(facts: AzureMLSection | None) -> list[str]:
    if facts is None:
        return []
    named = {
        "--subscription": facts.subscription,
        "--resource-group": facts.resource_group,
        "--workspace-name": facts.workspace,
    }
    return [word for option, value in named.items() if value for word in (option, value)]


def _facts(plan: JobPlan) -> AzureMLSection:
    from hpctrain.profile.sections.azureml import AzureMLSection

    return AzureMLSection.model_validate_json(str(plan.options["facts"]))


def _facts_of(job: Job) -> AzureMLSection | None:
    site = site_of_run(job.run_dir)
    return site.azureml if site else None
