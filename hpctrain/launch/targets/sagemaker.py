"""Amazon SageMaker: a run becomes one training job; the ``aws`` command sends the request.

SageMaker starts one container per machine. It copies the folder of checkpoints, which has the whole run directory, to
S3 while the job runs, and back when an interrupted job starts again on another machine. A half copied checkpoint does
no harm: it lacks its manifest or disagrees with it. TERM comes 120 s before a machine is taken away.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.checkpoint.whole import MANIFEST, checkpoint_path, newest_whole
from hpctrain.errors import Problem, SiteError
from hpctrain.launch.targets.clouds import (
    CloudTarget,
    call,
    error_of,
    instance_problems,
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
    from hpctrain.profile.sections.sagemaker import SageMakerSection
    from hpctrain.profile.site import Site

REQUEST = "sagemaker.json"
CHECKPOINTS = "/opt/ml/checkpoints"
INPUT = "/opt/ml/input/data"
RUN_FILES = "hpctrain"
"""Channel with profile.yaml and job.json."""
SHARED = "runs"
"""Channel of the shared file system."""
_STATES = {"InProgress": RUNNING, "Completed": FINISHED, "Failed": FAILED, "Stopping": CANCELLED, "Stopped": CANCELLED}
_WAITING = ("Starting", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading", "Pending")
_RESTARTING = ("Interrupted", "Restarting")
_LISTED = re.compile(rf"(?m)/step-(\d+)/{re.escape(MANIFEST)}$")
_STAYS_HERE = (
    *("profile.yaml", "job.json"),  # their channel brings them as the containers need them
    *("checkpoints/*", "heartbeat/*", "figures/*", "tensorboard/*", "rendezvous-*", "*.lock", ".*", "*/.*"),
)
"""Patterns of what a run does not need to go on elsewhere."""
_COPIED_WITHIN_S = 6 * 3600.0


class SageMakerTarget(CloudTarget):
    """Training jobs of Amazon SageMaker, in the account of the ``aws`` command."""

    name = "sagemaker"
    title = "SageMaker"
    command = "aws"

    def answers(self) -> bool:
        """Return whether Amazon knows who we are."""
        return self.is_available() and _aws(None, "sts", "get-caller-identity").returncode == 0

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what SageMaker could not do with the plan."""
        facts, problems = _facts(plan), []
        for key in ("role", "home"):
            if getattr(facts, key) is None:
                problems.append(Problem("launch.site", f"its `sagemaker` section has no {key}"))
        problems += instance_problems(self.name, plan, "ml.g5.12xlarge")
        if plan.resources.nodes > 1 and facts.shared_files is None:
            message = (
                f"{plan.resources.nodes} machines need a file system that all of them see for the run directory; use "
                "one machine with more GPUs, or name a file system in `sagemaker: {shared_files: ...}` of the site"
            )
            problems.append(Problem("launch.nodes", message))
        if bool(facts.subnets) != bool(facts.security_groups):
            problems.append(Problem("launch.site", "`sagemaker` needs subnets and security_groups together"))
        return problems + what_only_slurm_does(plan)

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the request as JSON."""
        from hpctrain.launch.targets.sagemaker_request import training_job

        return {REQUEST: json.dumps(training_job(plan, _facts(plan)), indent=2) + "\n"}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Ask who would send the request; SageMaker itself checks a request only when it takes it."""
        done = _aws(_facts(plan), "sts", "get-caller-identity")
        if done.returncode != 0:
            raise SiteError(f"aws: {error_of(done)}")
        return [f"aws: {json.loads(done.stdout).get('Arn', 'known')}"]

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Copy the files of the run to S3, and send the request."""
        from hpctrain.launch.targets.sagemaker_request import folders_there, job_name

        facts, run = _facts(plan), Path(plan.run_dir)
        request = json.loads(files[REQUEST].read_text(encoding="utf-8"))
        name = job_name(plan, number_of_submission(run))
        request["TrainingJobName"] = request["Environment"]["HPCTRAIN_JOB_ID"] = name
        texts = texts_of(run)
        texts["profile.yaml"] = with_data_files(texts["profile.yaml"], folders_there)
        place = next(item for item in request["InputDataConfig"] if item["ChannelName"] == RUN_FILES)
        address = place["DataSource"]["S3DataSource"]["S3Uri"]
        for file, text in texts.items():
            required(_aws(facts, "s3", "cp", "-", f"{address}{file}", stdin=text), f"cannot write {address}{file}")
        self._send_checkpoint(RunDir(run), plan, facts)
        files[REQUEST].write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")  # as it is sent
        command = ("sagemaker", "create-training-job", "--cli-input-json", json.dumps(request))
        required(_aws(facts, *command), "SageMaker refuses the job")
        return [name]

    def state(self, job: Job) -> JobState:
        """Ask SageMaker for the status of the job."""
        if not self.is_available():
            return JobState(silent=("there is no aws command here",))
        done = _aws(_facts_of(job), "sagemaker", "describe-training-job", "--training-job-name", job.id)
        if done.returncode != 0:
            return JobState(UNKNOWN, "aws", silent=(error_of(done),))
        return judge(json.loads(done.stdout))

    def cancel(self, job: Job) -> str:
        """Stop the job; its ranks have 120 s to save."""
        self.refuse_if_foreign(job, REQUEST)
        done = _aws(_facts_of(job), "sagemaker", "stop-training-job", "--training-job-name", job.id)
        if done.returncode != 0:
            raise SiteError(f"aws: {error_of(done)}")
        return f"training job {job.id} stops; its ranks save within 120 s"

    def home(self, plan: JobPlan) -> str | None:
        """Return where SageMaker keeps a copy of the run directory; a shared file system has the only one."""
        from hpctrain.launch.targets.sagemaker_request import home_of

        facts = _facts(plan)
        return None if facts.shared_files else home_of(plan, facts)

    def _send_checkpoint(self, run: RunDir, plan: JobPlan, facts: SageMakerSection) -> None:
        """Send the run that goes on there if S3 has no checkpoint as new as the newest one here."""
        home, (step, _) = self.home(plan), newest_whole(run)
        if home is None:
            send_checkpoint(run, plan.mirror)
        if home is None or step is None:
            return
        folder = checkpoint_path(run, step).relative_to(run.path).as_posix()
        listed = _aws(facts, "s3", "ls", "--recursive", f"{home}/checkpoints/").stdout  # fails where there are none
        if any(int(there) >= step for there in _LISTED.findall(listed)):
            return
        manifest, what = f"{folder}/{MANIFEST}", f"cannot copy the checkpoint of step {step} to {home}"
        filters = [*(word for name in _STAYS_HERE for word in ("--exclude", name)), "--include", f"{folder}/*"]
        words = ("--no-follow-symlinks", "--only-show-errors", *filters, "--exclude", manifest)
        required(_aws(facts, "s3", "sync", str(run.path), home, *words, within_s=_COPIED_WITHIN_S), what)
        required(_aws(facts, "s3", "cp", str(run.path / manifest), f"{home}/{manifest}", "--only-show-errors"), what)
        print(f"sent the checkpoint of step {step} to {home}")


TARGET = SageMakerTarget


def judge(found: Mapping[str, Any]) -> JobState:
    """Return the state of a job by the answer of ``describe-training-job``."""
    status, secondary = str(found.get("TrainingJobStatus")), str(found.get("SecondaryStatus"))
    why = printable(str(found.get("FailureReason") or ""))
    if status == "InProgress" and secondary in _RESTARTING:
        return JobState(REQUEUED, "aws", reason="its machine was taken back; SageMaker looks for another")
    if status == "InProgress" and secondary in _WAITING:
        return JobState(PENDING, "aws", reason=secondary)
    where = str((found.get("ResourceConfig") or {}).get("InstanceType") or "")
    return JobState(_STATES.get(status, UNKNOWN), "aws", words=": ".join(filter(None, [secondary, why])), where=where)


def _facts(plan: JobPlan) -> SageMakerSection:
    from hpctrain.profile.sections.sagemaker import SageMakerSection

    return SageMakerSection.model_validate_json(str(plan.options["facts"]))


def _facts_of(job: Job) -> SageMakerSection | None:
    site = site_of_run(job.run_dir)
    return site.sagemaker if site else None


def _aws(facts: SageMakerSection | None, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Call the ``aws`` command in the region and with the profile of the site; `options` are those of :func:`call`."""
    where = ["--region", facts.region] if facts and facts.region else []
    who = ["--profile", facts.profile] if facts and facts.profile else []
    return call("aws", *words, *where, *who, *(["--output", "json"] if words[0] != "s3" else []), **options)
