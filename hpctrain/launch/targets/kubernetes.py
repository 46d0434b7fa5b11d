"""Kubernetes: a run becomes a JobSet, a TrainJob, a PyTorchJob or an indexed Job, which the cluster itself restarts.

Everything goes through kubectl, the client that users have. Rendering needs neither it nor a cluster. In each pod
:mod:`hpctrain.launch.pod` starts the ranks of one node.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpctrain.errors import Problem, SiteError
from hpctrain.launch.targets.target import JobState
from hpctrain.states import CANCELLED, FAILED, FINISHED, PENDING, REQUEUED, RUNNING, UNKNOWN
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.profile.sections.kubernetes import KubernetesSection
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

MANIFEST = "kubernetes.yaml"
KINDS = {
    "jobset": "jobsets.jobset.x-k8s.io",
    "trainjob": "trainjobs.trainer.kubeflow.org",
    "pytorchjob": "pytorchjobs.kubeflow.org",
    "job": "jobs.batch",
}
"""Resource of each kind of job as kubectl names it, in the order in which ``auto`` tries them."""
_CONTEXT = "hpctrain/context"
_ANSWERS_WITHIN_S = 15.0
_FILES_OF_A_RUN = ("profile.yaml", "job.json", "provenance.json")
_LARGEST_CONFIG_MAP = 900_000
"""Kubernetes takes 1 MiB [byte]."""
_SCRATCH = "/tmp"


class KubernetesTarget:
    """The Kubernetes cluster of kubectl's current context, or of the context of the site."""

    name = "kubernetes"
    requeues: Literal["script", "supervisor", "platform"] = "platform"
    has_queue = True
    is_this_machine = False
    runs_images = True

    def sees_our_files(self, site: Site | None) -> bool:
        """Return what the site says of its volumes."""
        return site is None or site.kubernetes.sees_volumes

    def is_available(self) -> bool:
        """Return whether this host has kubectl."""
        return shutil.which("kubectl") is not None

    def answers(self) -> bool:
        """Return whether the cluster answers."""
        return self.is_available() and _kubectl("version", "-o", "json", context=None).returncode == 0

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return the facts of the cluster as text, and the image; with ``kind: auto`` the cluster is asked."""
        from hpctrain.profile.sections.kubernetes import KubernetesSection

        facts = site.kubernetes if site else KubernetesSection()
        kind = facts.kind if facts.kind != "auto" else self._best_kind(facts.context)
        return {
            "facts": facts.model_dump_json(exclude_defaults=True),
            "kind": kind,
            "image": launch.image or facts.image or "",
            "spot": launch.spot,
        }

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what the cluster could not do with the plan."""
        facts, problems = _facts(plan), []
        if not plan.options["image"]:
            message = (
                "the ranks run in a container image; name one with hpctrain in it (hpctrain image writes a Dockerfile)"
            )
            problems.append(Problem("launch.image", message))
        mounted = [volume.path for volume in facts.volumes if not volume.read_only]
        if not any(_is_below(plan.run_dir, path) for path in [*mounted, _SCRATCH]):
            known = ", ".join(mounted) or "none"
            message = (
                f"{plan.run_dir} is on no volume that pods can write to ({known}); choose a folder of one, or add the "
                "volume to `kubernetes: {volumes: ...}` of the site"
            )
            problems.append(Problem("launch.runs_dir", message))
        if plan.tasks:
            problems.append(Problem("--array", "needs Slurm; submit the runs one after the other"))
        problems += [
            Problem("--after", f"'{job.id}': Kubernetes cannot let one job wait for another") for job in plan.after
        ]
        if plan.prepare:
            problems.append(
                Problem("launch.cluster", "a search or a pipeline on Kubernetes is not there yet; use slurm or local")
            )
        return problems

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the manifest."""
        from hpctrain.launch.targets.kubernetes_manifest import as_text, manifests

        facts = _facts(plan)
        kind, image = str(plan.options["kind"]), str(plan.options["image"])
        objects = manifests(plan, facts, kind, image, carries_files=not facts.sees_volumes)
        if facts.context:
            objects[-1]["metadata"]["annotations"] = {_CONTEXT: facts.context}
        return {MANIFEST: as_text(objects)}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Let the cluster itself check the objects; it makes none."""
        answer = _apply(files[MANIFEST], "--dry-run=server", context=_facts(plan).context)
        return [f"kubectl: {line}" for line in answer.splitlines()]

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Make the objects of the run; those of an earlier submission of it are removed first."""
        from hpctrain.launch.targets.kubernetes_manifest import as_text, config_map, object_name

        facts, name = _facts(plan), object_name(plan)
        text = files[MANIFEST].read_text(encoding="utf-8")
        if not facts.sees_volumes:
            text = as_text([config_map(plan, facts, _texts_of(Path(plan.run_dir)))]) + text
        _remove(str(plan.options["kind"]), name, facts.namespace, facts.context)
        _apply(text, context=facts.context)
        return [name]

    def home(self, plan: JobPlan) -> str | None:
        """Return None."""
        return None

    def state(self, job: Job) -> JobState:
        """Ask for the job, and while it does not run, for its pods."""
        place = _place(job)
        if place is None or not self.is_available():
            return JobState(silent=("there is no kubectl here, or no manifest",))
        kind, namespace, context = place
        found, why_not = _get(KINDS[kind], job.id, namespace=namespace, context=context)
        if found is None:
            return JobState(UNKNOWN, "kubectl", silent=(why_not,))
        return _judge(found, lambda: _pods(job.id, namespace, context))

    def logs(self, job: Job) -> list[Path]:
        """Return the logs of the pods themselves, where this machine sees their volume."""
        if job.run_dir is None:
            return []
        return sorted((job.run_dir / "logs").glob("job-*-pod-*.log"), key=lambda path: os.lstat(path).st_mtime)

    def warn(self, job: Job) -> str:
        """Delete the pods, as a node that is drained does: the ranks save, and the job starts again."""
        _, namespace, context = _required(job)
        command = ["delete", "pods", "-n", namespace, "-l", f"hpctrain/run={job.id}", "--wait=false"]
        _kubectl(*command, context=context)
        return shlex.join(["kubectl", *command])

    def cancel(self, job: Job) -> str:
        """Remove the job; its pods get TERM and save, and none follows."""
        from hpctrain.launch.pod import mark_cancelled
        from hpctrain.rundir import RunDir

        kind, namespace, context = _required(job)
        if job.run_dir is not None:
            mark_cancelled(RunDir(job.run_dir))
        why_not = _remove(kind, job.id, namespace, context, wait=False)
        if why_not:
            raise SiteError(f"kubectl refuses: {why_not}")
        return f"{kind} {job.id} is removed; its ranks save and exit"

    def _best_kind(self, context: str | None) -> str:
        """Return the first kind that the cluster knows; an indexed Job if nobody can be asked."""
        if not self.is_available():
            return "job"
        answer = _kubectl("api-resources", "-o", "name", "--verbs=create", context=context)
        known = set(answer.stdout.split())
        return next((kind for kind, resource in KINDS.items() if resource in known), "job")


TARGET = KubernetesTarget


def _facts(plan: JobPlan) -> KubernetesSection:
    from hpctrain.profile.sections.kubernetes import KubernetesSection

    return KubernetesSection.model_validate_json(str(plan.options["facts"]))


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == os.path.normpath(folder)


def _texts_of(run: Path) -> dict[str, str]:
    """Return the files of a run that its pods need; provenance only as far as there is room."""
    texts = {name: (run / name).read_text(encoding="utf-8") for name in _FILES_OF_A_RUN if (run / name).exists()}
    if sum(map(len, texts.values())) > _LARGEST_CONFIG_MAP:
        texts.pop("provenance.json", None)  # a large diff of uncommitted changes; it stays here
    return texts


def _kubectl(*arguments: str, context: str | None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", *(["--context", context] if context else []), *arguments]
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S * 4, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "there is no kubectl on this host")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "kubectl did not answer in time")


def _apply(text: str, *options: str, context: str | None) -> str:
    done = _kubectl("apply", *options, "-f", "-", context=context, stdin=text)
    if done.returncode != 0:
        raise SiteError(f"kubectl refuses: {printable(done.stderr.strip())}")
    return done.stdout.strip()


def _remove(kind: str, name: str, namespace: str, context: str | None, wait: bool = True) -> str:
    """Remove the objects of a run; return why that was not possible, or nothing."""
    resources = [KINDS[kind], *(["services", "configmaps"] if wait else [])]
    if kind == "trainjob":
        resources.append("trainingruntimes.trainer.kubeflow.org")
    done = _kubectl(
        "delete",
        ",".join(resources),
        "-n",
        namespace,
        "-l",
        f"hpctrain/run={name}",
        f"--wait={'true' if wait else 'false'}",
        context=context,
    )
    return done.stderr.strip() if done.returncode != 0 else ""


def _get(*what: str, namespace: str, context: str | None) -> tuple[dict[str, Any] | None, str]:
    done = _kubectl("get", *what, "-n", namespace, "-o", "json", context=context)
    if done.returncode != 0:
        return None, printable(done.stderr.strip())
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None, "kubectl did not answer with JSON"
    return (found, "") if isinstance(found, dict) else (None, "kubectl did not answer with an object")


def _pods(name: str, namespace: str, context: str | None) -> list[dict[str, Any]]:
    found, _ = _get("pods", "-l", f"hpctrain/run={name}", namespace=namespace, context=context)
    items = (found or {}).get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


_GOOD, _BAD = ("Complete", "Completed", "Succeeded"), ("Failed",)


def _judge(found: dict[str, Any], pods: Any) -> JobState:
    """Return the state of a job of any kind by its conditions, and if these do not end it, by its pods."""
    status = found.get("status") or {}
    true = {
        item.get("type"): item
        for item in status.get("conditions") or []
        if isinstance(item, dict) and item.get("status") == "True"
    }
    for word in _GOOD:
        if word in true:
            return JobState(FINISHED, "kubectl", words=word)
    for word in _BAD:
        if word in true:
            words = ": ".join(filter(None, [str(true[word].get("reason") or ""), str(true[word].get("message") or "")]))
            return JobState(FAILED, "kubectl", words=printable(words))
    if "deletionTimestamp" in (found.get("metadata") or {}):
        return JobState(CANCELLED, "kubectl", words="being removed")
    if (found.get("spec") or {}).get("suspend") or "Suspended" in true:
        return JobState(PENDING, "kubectl", reason="suspended: it waits for its queue")
    return _judge_pods(pods())


def _judge_pods(pods: list[dict[str, Any]]) -> JobState:
    phases = [(pod.get("status") or {}).get("phase") for pod in pods]
    nodes = sorted(
        {str((pod.get("spec") or {}).get("nodeName")) for pod in pods if (pod.get("spec") or {}).get("nodeName")}
    )
    if "Running" in phases:
        return JobState(RUNNING, "kubectl", where=", ".join(nodes))
    if "Pending" in phases or not pods:
        return JobState(PENDING, "kubectl", reason=_why_pending(pods))
    return JobState(REQUEUED, "kubectl", reason="its pods have ended, and others follow")


def _why_pending(pods: list[dict[str, Any]]) -> str:
    for pod in pods:
        status = pod.get("status") or {}
        for condition in status.get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return printable(str(condition.get("message") or condition.get("reason") or "not scheduled"))
        for container in status.get("containerStatuses") or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason"):
                return printable(": ".join(filter(None, [waiting["reason"], str(waiting.get("message") or "")])))
    return "no pod yet" if not pods else "pods are starting"


def _place(job: Job) -> tuple[str, str, str | None] | None:
    """Return kind, namespace and context of a job by the manifest in its run directory."""
    if job.run_dir is None:
        return None
    try:
        text = (job.run_dir / MANIFEST).read_text(encoding="utf-8")
    except OSError:
        return None
    kind = next((kind for kind in KINDS if re.search(rf"(?mi)^kind: {kind}$", text)), None)
    namespace = re.search(r"(?m)^  namespace: ([a-z0-9.-]+)$", text)
    context = re.search(rf"(?m)^    {_CONTEXT}: (.+)$", text)
    if kind is None or namespace is None:
        return None
    return kind, namespace[1], context[1].strip("'\"") if context else None


def _required(job: Job) -> tuple[str, str, str | None]:
    place = _place(job)
    if place is None or job.run_dir is None:
        raise SiteError(f"'{job.id}' has no {MANIFEST} in its run directory; remove its job with kubectl")
    owner = os.lstat(job.run_dir / MANIFEST).st_uid
    if owner != os.geteuid():
        raise SiteError(f"{job.run_dir / MANIFEST} belongs to another user (uid {owner}); nothing was done")
    return place
