"""The manifests of a run on Kubernetes: pure functions from a plan to objects, in the words of four kinds of jobs.

=============  ====================================================================================================
JobSet         All pods start again together; exit codes 1 to 7 end the run at once.
TrainJob       Kubeflow Trainer makes a JobSet of it, by a TrainingRuntime of ours with the same rules.
PyTorchJob     The older operator restarts pods whose code says so, 128 to 255 by its own rule.
Job            One indexed Job with a headless service; each pod whose ranks lost their peers is made anew, so all are.
=============  ====================================================================================================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpctrain.launch.pod import RETRY_CODE

if TYPE_CHECKING:
    from hpctrain.launch.plan import JobPlan
    from hpctrain.profile.sections.kubernetes import KubernetesSection, TolerationSection, VolumeSection

Manifest = dict[str, Any]

CONTAINER = "node"
"""Name of the container with the ranks; Kubeflow Trainer gives its variables to the one of this name alone."""
PORT = 29500
RUN_FILES = "/etc/hpctrain/run"
"""Where pods find the files of a run that this machine cannot write to a volume."""
USER_ERRORS = [1, 2, 3, 4, 5, 6, 7]
"""Exit codes of errors that another attempt would only repeat."""
RUNTIME = "hpctrain"
_PYTORCH_RETRY = 138
"""The code that the older operator keeps for users to ask for another attempt."""
_SAFETY = 3
"""A pod gets this many times the longest save that was measured."""
_LONGEST_NAME = 40
"""Kubernetes allows 63 characters for a pod, and each kind of job adds words of its own."""
_NODES = "HPCTRAIN_NODES"
_RUN_LABEL = "hpctrain/run"


def object_name(plan: JobPlan) -> str:
    """Return the name of the objects of a run: its name and run id as a DNS label, unique by the run id."""
    *_, name, run_id = plan.run_dir.rstrip("/").split("/")
    words = [re.sub(r"[^a-z0-9-]+", "-", word.lower()).strip("-") for word in (name, run_id)]
    room = _LONGEST_NAME - len(words[1]) - 1
    stem = words[0][:room].strip("-") or "run"
    return f"{stem if stem[0].isalpha() else 'r-' + stem}-{words[1]}"


def manifests(
    plan: JobPlan, facts: KubernetesSection, kind: str, image: str, carries_files: bool = False
) -> list[Manifest]:
    """Return the objects of a run, in the order in which they have to be made.

    Parameters
    ----------
    plan : JobPlan
    facts : KubernetesSection
    kind : str
        ``jobset``, ``trainjob``, ``pytorchjob`` or ``job``.
    image : str
        Container image with hpctrain.
    carries_files : bool
        Whether pods get the files of the run from :func:`config_map`: this machine cannot write to their volume.
    """
    made = _Maker(plan, facts, image, carries_files)
    makers = {"jobset": made.jobset, "trainjob": made.trainjob, "pytorchjob": made.pytorchjob, "job": made.job}
    return makers[kind]()


def config_map(plan: JobPlan, facts: KubernetesSection, files: Mapping[str, str]) -> Manifest:
    """Return the object that brings the files of a run into its pods."""
    made = _Maker(plan, facts, "", True).object("v1", "ConfigMap", {})
    made.pop("spec")
    return made | {"data": dict(files)}


class _Maker:
    """Makes the objects of one run."""

    def __init__(self, plan: JobPlan, facts: KubernetesSection, image: str, carries_files: bool) -> None:
        self.plan, self.facts, self.image, self.carries_files = plan, facts, image, carries_files
        self.name = object_name(plan)
        self.nodes = plan.resources.nodes

    def jobset(self) -> list[Manifest]:
        """Return a JobSet, whose pods all start again together."""
        main = f"{self.name}-node-0-0.{self.name}"
        return [self.object("jobset.x-k8s.io/v1alpha2", "JobSet", self._jobset_spec(self._pod(main)), queue=True)]

    def trainjob(self) -> list[Manifest]:
        """Return a TrainJob, and the TrainingRuntime that states when it starts again."""
        runtime = f"{RUNTIME}-{self.name}"
        # Kubeflow's torch policy adds PET_NNODES, PET_NODE_RANK and the address of the first node.
        pod = self._pod(None)
        template = self._jobset_spec(pod)
        (replicated,) = template["replicatedJobs"]
        replicated["template"]["metadata"] = {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}
        resources = self.plan.resources
        policy: Manifest = {"numNodes": self.nodes, "torch": {}}
        container = pod["spec"]["containers"][0]
        trainer = {
            "numNodes": self.nodes,
            "numProcPerNode": resources.ranks_per_node,
            "image": self.image,
            "command": container["command"],
            "resourcesPerNode": container["resources"],
        }
        reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": runtime}
        made = self.object(
            "trainer.kubeflow.org/v1alpha1",
            "TrainingRuntime",
            {"mlPolicy": policy, "template": {"spec": template}},
            name=runtime,
        )
        # A runtime says of what framework it is, or the user's own tools do not list it.
        made["metadata"]["labels"]["trainer.kubeflow.org/framework"] = "torch"
        job = {"runtimeRef": reference, "trainer": trainer}
        return [made, self.object("trainer.kubeflow.org/v1alpha1", "TrainJob", job, queue=True)]

    def pytorchjob(self) -> list[Manifest]:
        """Return a PyTorchJob of the older operator."""
        pod = self._pod(None)
        container = pod["spec"]["containers"][0]
        container["name"] = "pytorch"  # the operator asks for this name
        container["ports"][0]["name"] = "pytorchjob-port"
        container["env"].append({"name": RETRY_CODE, "value": str(_PYTORCH_RETRY)})
        pod["spec"].pop("restartPolicy")
        replicas = {"Master": 1} | ({"Worker": self.nodes - 1} if self.nodes > 1 else {})
        spec = {
            "runPolicy": {"backoffLimit": self._most_failures(), "cleanPodPolicy": "None"},
            "pytorchReplicaSpecs": {
                role: {"replicas": count, "restartPolicy": "ExitCode", "template": pod}
                for role, count in replicas.items()
            },
        }
        return [self.object("kubeflow.org/v1", "PyTorchJob", spec, queue=True)]

    def job(self) -> list[Manifest]:
        """Return an indexed Job, and the service by which its pods find each other."""
        service = {
            "clusterIP": "None",
            "selector": {_RUN_LABEL: self.name},
            "publishNotReadyAddresses": True,  # the ranks look for each other before any pod is ready
            "ports": [{"name": "ranks", "port": PORT}],
        }
        pod = self._pod(f"{self.name}-0.{self.name}")
        pod["spec"]["subdomain"] = self.name
        spec = {
            **self._indexed(pod),
            # A pod counts each time that it fails; one that was taken away by the cluster does not.
            "backoffLimit": self.nodes * self._most_failures(),
            "podFailurePolicy": {
                "rules": [
                    _fail_at_once(),
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
        }
        return [self.object("v1", "Service", service), self.object("batch/v1", "Job", spec, queue=True)]

    def _jobset_spec(self, pod: Manifest) -> Manifest:
        job = {**self._indexed(pod), "backoffLimit": 0, "podFailurePolicy": {"rules": [_fail_at_once()]}}
        return {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": self._most_failures(),
                "rules": [{"name": "user-error", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
        }

    def _indexed(self, pod: Manifest) -> Manifest:
        return {
            "completionMode": "Indexed",
            "completions": self.nodes,
            "parallelism": self.nodes,
            "podReplacementPolicy": "Failed",  # not before the old pod has ended, as it is still saving
            "template": pod,
        }

    def _most_failures(self) -> int:
        return self.plan.max_attempts - 1 if self.plan.requeue else 0

    def _pod(self, main_address: str | None) -> Manifest:
        facts, annotations = self.facts, dict(self.facts.annotations)
        # A node that is going to be removed for lack of work has none of ours; one of spot machines may go.
        annotations |= {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "true" if self.plan.options["spot"] else "false"
        }
        spec: Manifest = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": max(30, self.plan.lead_s, math.ceil(_SAFETY * (self.plan.save_s or 0))),
            "securityContext": _pod_security(facts),
            "containers": [self._container(main_address)],
            "volumes": self._volumes(),
        }
        optional = {
            "serviceAccountName": facts.service_account,
            "imagePullSecrets": [{"name": facts.image_pull}] if facts.image_pull else None,
            "nodeSelector": self._node_selector(),
            "tolerations": self._tolerations(),
            "priorityClassName": facts.priority_class,
        }
        spec |= {key: value for key, value in optional.items() if value}
        return {"metadata": {"labels": self._labels(), "annotations": annotations}, "spec": spec}

    def _container(self, main_address: str | None) -> Manifest:
        command = ["python3", "-u", "-m", "hpctrain.launch.pod", self.plan.run_dir]
        if self.carries_files:
            command += ["--files", RUN_FILES]
        made: Manifest = {
            "name": CONTAINER,
            "image": self.image,
            "command": command,
            "env": self._environment(main_address),
            "ports": [{"name": "ranks", "containerPort": PORT}],
            "resources": self._resources(),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                *(_mount(index, volume) for index, volume in enumerate(self.facts.volumes)),
                {"name": "shared-memory", "mountPath": "/dev/shm"},
                {"name": "scratch", "mountPath": "/tmp"},
                *([{"name": "run-files", "mountPath": RUN_FILES, "readOnly": True}] if self.carries_files else []),
            ],
        }
        if self.facts.env_from:
            made["envFrom"] = [{"secretRef": {"name": name}} for name in self.facts.env_from]
        return made

    def _environment(self, main_address: str | None) -> list[Manifest]:
        values = {"HPCTRAIN_JOB_ID": self.name, _NODES: str(self.nodes), "HOME": "/tmp", **self.plan.environment}
        if main_address is not None:
            values |= {"MASTER_ADDR": main_address, "MASTER_PORT": str(PORT)}
        return [{"name": name, "value": value} for name, value in values.items()]

    def _resources(self) -> Manifest:
        wanted = self.plan.resources
        requests: Manifest = {"cpu": str(wanted.cpus_per_rank * wanted.ranks_per_node)}
        limits: Manifest = {}
        if wanted.memory_gib_per_node is not None:
            limits["memory"] = requests["memory"] = f"{int(wanted.memory_gib_per_node * 1024)}Mi"
        if wanted.gpus_per_node:
            limits[self.facts.gpu_resource] = requests[self.facts.gpu_resource] = str(wanted.gpus_per_node)
        return {"requests": requests, "limits": limits} if limits else {"requests": requests}

    def _volumes(self) -> list[Manifest]:
        size = f"{int(self.facts.shared_memory_gib * 1024)}Mi"
        found = [
            {"name": f"volume-{index}", "persistentVolumeClaim": {"claimName": volume.claim}}
            for index, volume in enumerate(self.facts.volumes)
        ]
        found.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        found.append({"name": "scratch", "emptyDir": {}})
        if self.carries_files:
            found.append({"name": "run-files", "configMap": {"name": self.name}})
        return found

    def _node_selector(self) -> dict[str, str]:
        return self.facts.node_selector | (self.facts.spot_node_selector if self.plan.options["spot"] else {})

    def _tolerations(self) -> list[Manifest]:
        wanted = [*self.facts.tolerations, *(self.facts.spot_tolerations if self.plan.options["spot"] else [])]
        found = [_toleration(each) for each in wanted]
        if self.plan.resources.gpus_per_node:
            found.append({"key": self.facts.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
        return found

    def _labels(self) -> dict[str, str]:
        return {**self.facts.labels, "app.kubernetes.io/managed-by": "hpctrain", _RUN_LABEL: self.name}

    def object(
        self, version: str, kind: str, spec: Manifest, *, name: str | None = None, queue: bool = False
    ) -> Manifest:
        """Return an object of a run; with `queue` it is the one that Kueue manages."""
        labels = self._labels()
        if queue and self.facts.queue:
            labels["kueue.x-k8s.io/queue-name"] = self.facts.queue
        if queue and self.facts.queue and self.facts.queue_priority_class:
            labels["kueue.x-k8s.io/priority-class"] = self.facts.queue_priority_class
        metadata: Manifest = {"name": name or self.name, "namespace": self.facts.namespace, "labels": labels}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _fail_at_once() -> Manifest:
    codes = {"containerName": CONTAINER, "operator": "In", "values": USER_ERRORS}
    return {"action": "FailJob", "onExitCodes": codes}


def _pod_security(facts: KubernetesSection) -> Manifest:
    found: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if facts.user_id is not None:
        found["runAsUser"] = facts.user_id
    if facts.group_id is not None:
        found |= {"runAsGroup": facts.group_id, "fsGroup": facts.group_id, "fsGroupChangePolicy": "OnRootMismatch"}
    return found


def _mount(index: int, volume: VolumeSection) -> Manifest:
    found: Manifest = {"name": f"volume-{index}", "mountPath": volume.path}
    if volume.read_only:
        found["readOnly"] = True
    if volume.sub_path is not None:
        found["subPath"] = volume.sub_path
    return found


def _toleration(section: TolerationSection) -> Manifest:
    return {key: value for key, value in section.model_dump().items() if value is not None}


def as_text(objects: list[Manifest]) -> str:
    """Return manifests as YAML documents in one text, as ``kubectl apply`` takes them."""
    import yaml

    # A round trip through JSON leaves no anchors in the YAML for parts that two objects share.
    plain = [json.loads(json.dumps(each)) for each in objects]
    return "".join("---\n" + yaml.safe_dump(each, sort_keys=False, width=120) for each in plain)
