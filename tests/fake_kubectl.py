#!/usr/bin/env python3
"""A Kubernetes for the tests, faked as a whole: ``kubectl`` with a cluster of processes behind it.

``$FAKE_CLUSTER`` is a folder with the objects as JSON. ``apply`` keeps the objects and starts one controller per job;
the controller starts each pod as a process, by the manifest alone, and restarts it by the rules that the manifest
states: podFailurePolicy, backoffLimit, failurePolicy of a JobSet, ExitCode of a PyTorchJob. Names of pods resolve to
this machine. It knows nothing of hpctrain.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

CLUSTER = Path(os.environ["FAKE_CLUSTER"])
RESOURCES = {
    "Job": "jobs.batch",
    "JobSet": "jobsets.jobset.x-k8s.io",
    "TrainJob": "trainjobs.trainer.kubeflow.org",
    "TrainingRuntime": "trainingruntimes.trainer.kubeflow.org",
    "PyTorchJob": "pytorchjobs.kubeflow.org",
    "Service": "services",
    "ConfigMap": "configmaps",
}
JOBS = ("Job", "JobSet", "TrainJob", "PyTorchJob")


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def write(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


def path_of(resource: str, name: str) -> Path:
    return CLUSTER / resource / f"{name}.json"


def apply(options: list[str]) -> None:
    for item in yaml.safe_load_all(sys.stdin.read()):
        if item is None:
            continue
        if item["kind"] not in RESOURCES or item["kind"] not in known_kinds():
            sys.exit(f'error: no matches for kind "{item["kind"]}" in version "{item["apiVersion"]}"')
        resource, name = RESOURCES[item["kind"]], item["metadata"]["name"]
        print(f"{resource}/{name} created")
        if "--dry-run=server" in options:
            continue
        if path_of(resource, name).exists():
            sys.exit(f"error: {resource}/{name} exists already")
        write(path_of(resource, name), item)
        if item["kind"] in JOBS:
            with open(CLUSTER / f"controller-{name}.log", "ab") as log:
                subprocess.Popen(
                    [sys.executable, __file__, "controller", resource, name],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )


def known_kinds() -> list[str]:
    lacks = os.environ.get("FAKE_CLUSTER_LACKS", "").split(",")
    return [kind for kind in RESOURCES if kind not in lacks]


def matching(resource: str, selector: str) -> list[Path]:
    key, _, value = selector.partition("=")
    paths = sorted((CLUSTER / resource).glob("*.json"))
    return [path for path in paths if read(path)["metadata"]["labels"].get(key) == value]


def get(words: list[str]) -> None:
    resource = words[0]
    if "-l" in words:
        print(json.dumps({"items": [read(path) for path in matching(resource, words[words.index("-l") + 1])]}))
        return
    path = path_of(resource, words[1])
    if not path.exists():
        sys.exit(f'Error from server (NotFound): {resource} "{words[1]}" not found')
    print(path.read_text())


def delete(words: list[str]) -> None:
    for resource in words[0].split(","):
        for path in matching(resource, words[words.index("-l") + 1]):
            if resource == "pods":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(read(path)["pid"], signal.SIGTERM)
                continue
            (CLUSTER / "deleted").mkdir(exist_ok=True)
            os.replace(path, CLUSTER / "deleted" / f"{resource}-{path.name}-{time.time_ns()}")
            print(f"{resource}/{path.stem} deleted")
    if "--wait=true" in words:
        deadline = time.monotonic() + 60
        selector = words[words.index("-l") + 1]
        while matching("pods", selector) and time.monotonic() < deadline:
            time.sleep(0.02)


class Controller:
    """Runs the pods of one job until it ends or is deleted."""

    def __init__(self, resource: str, name: str) -> None:
        self.path, self.name = path_of(resource, name), name
        self.item = read(self.path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.pods: dict[str, subprocess.Popen[bytes]] = {}
        self.failures = 0

    def run(self) -> None:
        {"Job": self.job, "JobSet": self.jobset, "TrainJob": self.trainjob, "PyTorchJob": self.pytorchjob}[
            self.item["kind"]
        ]()

    def job(self) -> None:
        spec = self.item["spec"]
        indexes, done = range(spec["completions"]), set()
        for index in indexes:
            self.start_indexed(spec["template"], index)
        while len(done) < len(indexes):
            for index in set(indexes) - done:
                code = self.pods[f"{self.name}-{index}"].poll()
                if code == 0:
                    done.add(index)
                elif code is not None:
                    if self.fails_at_once(spec, code):
                        return self.end("Failed", "PodFailurePolicy", f"exit code {code}")
                    self.failures += 1
                    if self.failures > spec["backoffLimit"]:
                        return self.end("Failed", "BackoffLimitExceeded", f"exit code {code}")
                    self.start_indexed(spec["template"], index)
            self.look()
        return self.end("Complete", "Done", "")

    def jobset(self, variables=None) -> None:
        self.all_together(self.item["spec"], variables or {}, "Completed")

    def trainjob(self) -> None:
        reference = self.item["spec"]["runtimeRef"]
        runtime = read(path_of(RESOURCES[reference["kind"]], reference["name"]))["spec"]
        spec = runtime["template"]["spec"]
        trainer = self.item["spec"]["trainer"]
        (replicated,) = spec["replicatedJobs"]
        container = replicated["template"]["spec"]["template"]["spec"]["containers"][0]
        container |= {"image": trainer["image"], "command": trainer["command"]}
        words = {
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_MASTER_ADDR": f"{self.name}-node-0-0.{self.name}",
            "PET_MASTER_PORT": "29400",
        }
        self.all_together(spec, words, "Complete")

    def all_together(self, spec: dict, variables: dict[str, str], good: str) -> None:
        (replicated,) = spec["replicatedJobs"]
        job = replicated["template"]["spec"]
        restarts = 0
        while True:
            names = []
            for index in range(job["completions"]):
                more = variables | ({"PET_NODE_RANK": str(index)} if variables else {})
                names.append(self.start_indexed(job["template"], index, **more))
            failed = None
            while failed is None and any(self.pods[name].poll() is None for name in names):
                failed = next((code for name in names if (code := self.pods[name].poll())), None)
                self.look()
            codes = [self.pods[name].poll() for name in names]
            failed = failed if failed is not None else next((code for code in codes if code), None)
            if failed is None:
                return self.end(good, "AllJobsCompleted", "")
            self.stop()
            at_once = spec["failurePolicy"]["rules"][0]["action"] == "FailJobSet" and self.fails_at_once(job, failed)
            if at_once or restarts >= spec["failurePolicy"]["maxRestarts"]:
                return self.end("Failed", "FailedJobs", f"exit code {failed}")
            restarts += 1

    def pytorchjob(self) -> None:
        spec = self.item["spec"]
        roles = [role for role, part in spec["pytorchReplicaSpecs"].items() for _ in range(part["replicas"])]
        done: set[int] = set()

        def start(index: int) -> None:
            words = {
                "RANK": str(index),
                "WORLD_SIZE": str(len(roles)),
                "MASTER_ADDR": f"{self.name}-master-0",
                "MASTER_PORT": "23456",
            }
            template = spec["pytorchReplicaSpecs"][roles[index]]["template"]
            self.start_pod(template, f"{self.name}-{index}", words)

        for index in range(len(roles)):
            start(index)
        while len(done) < len(roles):
            for index in set(range(len(roles))) - done:
                code = self.pods[f"{self.name}-{index}"].poll()
                code = None if code is None else code if code >= 0 else 128 - code
                if code == 0:
                    done.add(index)
                elif code is not None:
                    self.failures += 1
                    if code < 128 or self.failures > spec["runPolicy"]["backoffLimit"]:
                        self.stop()
                        return self.end("Failed", "PyTorchJobFailed", f"exit code {code}")
                    start(index)
            self.look()
        return self.end("Succeeded", "PyTorchJobSucceeded", "")

    def start_indexed(self, template: dict, index: int, **variables: str) -> str:
        return self.start_pod(template, f"{self.name}-{index}", {"JOB_COMPLETION_INDEX": str(index), **variables})

    def start_pod(self, template: dict, name: str, variables: dict[str, str]) -> str:
        (container,) = template["spec"]["containers"]
        values = {item["name"]: item["value"] for item in container.get("env", [])} | variables
        # Names resolve to this machine, where every job has a port of its own.
        for word in ("MASTER_ADDR", "PET_MASTER_ADDR"):
            if word in values:
                values[word] = "127.0.0.1"
        for word in ("MASTER_PORT", "PET_MASTER_PORT"):
            if word in values:
                values[word] = str(self.port)
        environment = {**os.environ, **values}
        command = [self.mounted(word) for word in container["command"]]
        with open(CLUSTER / f"pod-{name}.log", "ab") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pods[name] = process
        labels = template["metadata"]["labels"]
        pod = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": "fake-node"},
            "status": {"phase": "Running"},
            "pid": process.pid,
        }
        write(path_of("pods", name), pod)
        return name

    def mounted(self, word: str) -> str:
        """Return where a ConfigMap is mounted in this pod, for a word that names its place in a real one."""
        if word != "/etc/hpctrain/run":
            return word
        folder = CLUSTER / f"mounted-{self.name}"
        folder.mkdir(exist_ok=True)
        for name, text in read(path_of("configmaps", self.name))["data"].items():
            (folder / name).write_text(text)
        return str(folder)

    def fails_at_once(self, job: dict, code: int) -> bool:
        return any(
            rule["action"] == "FailJob" and code in rule["onExitCodes"]["values"]
            for rule in job["podFailurePolicy"]["rules"]
            if "onExitCodes" in rule
        )

    def look(self) -> None:
        """Note which pods have ended; end them all if the job was deleted."""
        for name, process in self.pods.items():
            if process.poll() is not None and (pod := read(path_of("pods", name)))["status"]["phase"] == "Running":
                pod["status"]["phase"] = "Succeeded" if process.returncode == 0 else "Failed"
                write(path_of("pods", name), pod)
        if not self.path.exists():
            self.stop()
            self.forget()
            sys.exit(0)
        time.sleep(0.02)

    def stop(self) -> None:
        for process in self.pods.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.pods.values():
            process.wait()

    def forget(self) -> None:
        for name in self.pods:
            path_of("pods", name).unlink(missing_ok=True)

    def end(self, kind: str, reason: str, message: str) -> None:
        self.stop()
        if self.path.exists():
            condition = {"type": kind, "status": "True", "reason": reason, "message": message}
            write(self.path, {**read(self.path), "status": {"conditions": [condition]}})
        self.forget()


def main(words: list[str]) -> None:
    if words[0] == "--context":
        words = words[2:]
    command, words = words[0], words[1:]
    if command == "apply":
        apply(words)
    elif command == "get":
        get(words)
    elif command == "delete":
        delete(words)
    elif command == "version":
        print(json.dumps({"serverVersion": {"gitVersion": "v1.37.0"}}))
    elif command == "api-resources":
        print("\n".join(RESOURCES[kind] for kind in known_kinds()))
    elif command == "controller":
        Controller(*words).run()
    elif command == "reset":
        shutil.rmtree(CLUSTER)
    else:
        sys.exit(f"error: unknown command {command}")


if __name__ == "__main__":
    main(sys.argv[1:])
