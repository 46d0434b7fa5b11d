"""Vertex AI of Google Cloud: a run becomes one custom job; the ``gcloud`` command sends it.

Vertex AI starts one container per machine and shows buckets below ``/gcs``, which is no file system for a run. So a run
of one machine lives on its disk and has a mirror; a run of several lives on NFS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.errors import Problem, SiteError
from hpctrain.launch.pod import INSIDE
from hpctrain.launch.targets.clouds import (
    CloudTarget,
    call,
    error_of,
    instance_problems,
    needs_a_mirror,
    number_of_submission,
    required,
    send_checkpoint,
    site_of_run,
    texts_of,
    what_only_slurm_does,
    with_data_files,
)
from hpctrain.launch.targets.target import JobState
from hpctrain.rundir import RunDir
from hpctrain.states import CANCELLED, FAILED, FINISHED, PENDING, REQUEUED, RUNNING, UNKNOWN
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan
    from hpctrain.profile.sections.vertex import VertexSection
    from hpctrain.profile.site import Site

JOB = "vertex.json"
_LONGEST_JOB_S = 30 * 86400
_STATES = {
    "JOB_STATE_QUEUED": PENDING,
    "JOB_STATE_PENDING": PENDING,
    "JOB_STATE_RUNNING": RUNNING,
    "JOB_STATE_SUCCEEDED": FINISHED,
    "JOB_STATE_FAILED": FAILED,
    "JOB_STATE_CANCELLING": CANCELLED,
    "JOB_STATE_CANCELLED": CANCELLED,
    "JOB_STATE_PAUSED": PENDING,
    "JOB_STATE_EXPIRED": FAILED,
    "JOB_STATE_UPDATING": RUNNING,
    "JOB_STATE_PARTIALLY_SUCCEEDED": FAILED,
}
_PLACE = re.compile(r"projects/[^/]+/locations/([^/]+)/customJobs/(\d+)")


class VertexTarget(CloudTarget):
    """Custom jobs of Vertex AI, in the project of the ``gcloud`` command or of the site."""

    name = "vertex"
    title = "Vertex AI"
    command = "gcloud"

    def answers(self) -> bool:
        """Return whether somebody is logged in."""
        return self.is_available() and bool(call("gcloud", "auth", "list", "--format=value(account)").stdout.strip())

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what Vertex AI could not do with the plan."""
        facts, problems = _facts(plan), []
        for key in ("region", "home"):
            if getattr(facts, key) is None:
                problems.append(Problem("launch.site", f"its `vertex` section has no {key}"))
        problems += instance_problems(self.name, plan, "a2-highgpu-4g")
        if facts.nfs is None and plan.resources.nodes > 1:
            message = (
                f"{plan.resources.nodes} machines need a file system that all of them see for the run directory; use "
                "one machine with more GPUs, or name one in `vertex: {nfs: ...}` of the site"
            )
            problems.append(Problem("launch.nodes", message))
        if facts.nfs is not None and facts.network is None:
            problems.append(Problem("launch.site", "its `vertex` section has nfs, which needs a network"))
        if facts.nfs is None:
            problems += needs_a_mirror(plan)
        return problems + what_only_slurm_does(plan)

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the specification of the custom job as JSON."""
        return {JOB: json.dumps(custom_job(plan, _facts(plan)), indent=2) + "\n"}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Ask who would send the job; Vertex AI itself checks one only when it takes it."""
        account = required(
            call("gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)"), "gcloud"
        )
        return [f"gcloud: {account.strip() or 'nobody is logged in'}"]

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Copy the files of the run to the bucket, and send the job."""
        facts, run = _facts(plan), Path(plan.run_dir)
        address, job = _submitted(plan, facts), json.loads(files[JOB].read_text(encoding="utf-8"))
        job_name = _job_name(plan, number_of_submission(run))
        name_it(job, job_name)
        files[JOB].write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
        texts = texts_of(run)
        texts["profile.yaml"] = with_data_files(texts["profile.yaml"], _folders_there)
        send_checkpoint(RunDir(run), plan.mirror)
        for name, text in texts.items():
            what = f"cannot write {address}{name}"
            required(call("gcloud", "storage", "cp", "-", f"{address}{name}", *_project(facts), stdin=text), what)
        flags = (
            [f"--labels={','.join(f'{key}={value}' for key, value in facts.labels.items())}"] if facts.labels else []
        )
        flags += [f"--kms-key={facts.encryption}"] if facts.encryption else []
        command = ["gcloud", "ai", "custom-jobs", "create", f"--display-name={job_name}"]
        command += [f"--region={facts.region}", f"--config={files[JOB]}", "--format=json", *flags, *_project(facts)]
        said = json.loads(required(call(*command), "Vertex AI refuses the job"))
        found = _PLACE.fullmatch(str(said.get("name")))
        if found is None:
            raise SiteError(f"the answer of gcloud names no job: {printable(str(said)[:200])}")
        return [f"{found[1]}.{found[2]}"]

    def state(self, job: Job) -> JobState:
        """Ask Vertex AI for the state of the job."""
        if not self.is_available():
            return JobState(silent=("there is no gcloud command here",))
        done = call("gcloud", "ai", "custom-jobs", "describe", *_words_of(job), "--format=json")
        if done.returncode != 0:
            return JobState(UNKNOWN, "gcloud", silent=(error_of(done),))
        return judge(json.loads(done.stdout))

    def cancel(self, job: Job) -> str:
        """Stop the job; its ranks get TERM and save."""
        self.refuse_if_foreign(job, JOB)
        required(call("gcloud", "ai", "custom-jobs", "cancel", *_words_of(job)), "Vertex AI refuses")
        return f"custom job {job.id} stops; its ranks save and exit"


TARGET = VertexTarget


def custom_job(plan: JobPlan, facts: VertexSection) -> dict[str, Any]:
    """Return the specification of a custom job: a pure function.

    Parameters
    ----------
    plan : JobPlan
    facts : VertexSection
    """
    from hpctrain.profile.instances import find_instance

    name = str(plan.options["instance_type"])
    machine: dict[str, Any] = {"machineType": name}
    known = find_instance("vertex", name)
    if known is not None and known.gpus:
        machine |= {"acceleratorType": known.accelerator, "acceleratorCount": known.gpus}
    variables = {"HPCTRAIN_JOB_ID": _job_name(plan), INSIDE: "1", **plan.environment}
    pool: dict[str, Any] = {
        "machineSpec": machine,
        "replicaCount": "1",
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": facts.disk_gib},
        "containerSpec": {
            "imageUri": plan.options["image"],
            "command": ["python3", "-u", "-m", "hpctrain.launch.pod"],
            "args": [_run_dir_there(plan, facts), "--files", _below_gcs(_submitted(plan, facts))],
            "env": [{"name": key, "value": value} for key, value in variables.items()],
        },
    }
    if facts.nfs is not None:
        mount = {"server": facts.nfs.server, "path": facts.nfs.export, "mountPoint": facts.nfs.mounted_as}
        pool["nfsMounts"] = [mount]
    pools = [pool]
    if plan.resources.nodes > 1:
        pools.append({**pool, "replicaCount": str(plan.resources.nodes - 1)})
    attempts = plan.max_attempts if plan.requeue else 1
    scheduling: dict[str, Any] = {
        "timeout": f"{min(plan.time_limit_s * attempts, _LONGEST_JOB_S)}s",
        "restartJobOnWorkerRestart": facts.restart_on_failure and plan.requeue,
    }
    if plan.options["spot"]:
        scheduling["strategy"] = "SPOT"
    job: dict[str, Any] = {"workerPoolSpecs": pools, "scheduling": scheduling}
    optional = {"serviceAccount": facts.service_account, "network": facts.network}
    return job | {key: value for key, value in optional.items() if value}


def name_it(job: dict[str, Any], name: str) -> None:
    """Tell the ranks of a custom job its name, by which they count its attempts."""
    for pool in job["workerPoolSpecs"]:
        for variable in pool["containerSpec"]["env"]:
            if variable["name"] == "HPCTRAIN_JOB_ID":
                variable["value"] = name


def judge(found: Mapping[str, Any]) -> JobState:
    """Return the state of a job by the answer of ``gcloud ai custom-jobs describe``."""
    state = str(found.get("state"))
    error = printable(str((found.get("error") or {}).get("message") or ""))
    if state == "JOB_STATE_PENDING" and found.get("startTime"):
        return JobState(REQUEUED, "gcloud", reason="its machine was taken back; Vertex AI looks for another")
    word = state.removeprefix("JOB_STATE_").lower()
    return JobState(_STATES.get(state, UNKNOWN), "gcloud", words=": ".join(filter(None, [word, error])))


def _folders_there(files: Iterable[str]) -> dict[str, str]:
    return {folder: _below_gcs(folder) for folder, _, _ in (name.rpartition("/") for name in files)}


def _below_gcs(name: str) -> str:
    return f"/gcs/{name.removeprefix('gs://')}" if name.startswith("gs://") else name


def _job_name(plan: JobPlan, number: int = 1) -> str:
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    return f"{name[:100]}-{run_id}{f'-{number}' if number > 1 else ''}"


def _submitted(plan: JobPlan, facts: VertexSection) -> str:
    return f"{str(facts.home).rstrip('/')}/submitted/{_job_name(plan)}/"


def _run_dir_there(plan: JobPlan, facts: VertexSection) -> str:
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    folder = f"/mnt/nfs/{facts.nfs.mounted_as}" if facts.nfs else "/tmp/runs"
    return f"{folder}/{name}/{run_id}"


def _words_of(job: Job) -> list[str]:
    region, _, number = job.id.partition(".")
    site = site_of_run(job.run_dir)
    return [number, f"--region={region}", *(_project(site.vertex) if site else [])]


def _project(facts: VertexSection) -> list[str]:
    return [f"--project={facts.project}"] if facts.project else []


def _facts(plan: JobPlan) -> VertexSection:
    from hpctrain.profile.sections.vertex import VertexSection

    return VertexSection.model_validate_json(str(plan.options["facts"]))
