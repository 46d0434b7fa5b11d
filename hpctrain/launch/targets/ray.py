"""Ray: a run becomes an actor of its own on a cluster that runs already; no process stays where it was submitted.

That actor, the keeper, starts again elsewhere when its node dies. It runs the controller of the run
(:mod:`hpctrain.launch.targets.ray_controller`), which asks Ray for nodes and starts the ranks of each node by
:mod:`hpctrain.launch.pod`. All nodes see the run directory, so status and cancel need no connection to Ray: the
controller writes a record, and reads whether somebody cancels.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from hpctrain.errors import Problem, SiteError
from hpctrain.launch.targets.ray_cluster import is_installed, need_ray
from hpctrain.launch.targets.target import JobState
from hpctrain.records import is_moment, is_text
from hpctrain.rundir import RunDir, read_json
from hpctrain.states import PENDING, REQUEUED, RUNNING
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.sections.ray import RaySection
    from hpctrain.profile.site import Site

REQUEST = "ray.json"
"""File of a run directory that says what the controller asks of Ray."""
NODE_MODULE = "hpctrain.launch.targets.ray_node"
KEY = "launch.cluster: ray"
_SILENT_S = 90.0
"""A controller whose record is older may be dead [s]; clocks of hosts may differ by some seconds."""
_ANSWERS_WITHIN_S = 5.0
_OF_THE_PROFILE = {"CPU", "GPU", "memory", "object_store_memory"}
_STATES = (PENDING, RUNNING, REQUEUED)


class RayTarget:
    """The Ray cluster of this machine, or the one that the site names."""

    name = "ray"
    requeues: Literal["script", "supervisor", "platform"] = "platform"
    has_queue = True
    is_this_machine = False
    runs_images = False

    def sees_our_files(self, site: Site | None) -> bool:
        """Return True: run directory and data are on a file system that this machine and all nodes see."""
        return True

    def is_available(self) -> bool:
        """Return whether Ray is installed here."""
        return is_installed()

    def answers(self) -> bool:
        """Return whether Ray is installed here; which cluster is meant, only a site says."""
        return self.is_available()

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return the facts of the cluster as text, and the fewest nodes."""
        return options_of_ray(launch, site)

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return what a run on Ray cannot do."""
        problems = wrong_nodes(plan)
        for name in sorted(_OF_THE_PROFILE & set(facts_of(plan).resources)):
            message = (
                f"ray.resources.{name}: the profile asks for it (gpus_per_node, cpus_per_rank, memory_gib_per_node)"
            )
            problems.append(Problem("launch.site", message))
        if plan.tasks:
            problems.append(Problem("--array", "needs Slurm; submit the runs one after the other"))
        for job in plan.after:
            if job.run_dir is None:
                message = f"'{job.id}' is not a run; name one by its path, name, run id or job id"
                problems.append(Problem("--after", message))
        if plan.prepare:
            message = "a search runs on Ray by `engine: ray` of its study; a pipeline runs on slurm or local"
            problems.append(Problem("launch.cluster", message))
        return problems

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return what the controller asks of Ray, as JSON."""
        return {REQUEST: json.dumps(request(plan, facts_of(plan)), indent=2) + "\n"}

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Ask whether something listens at the address; Ray itself queues what does not fit yet."""
        address = facts_of(plan).address
        need_ray(KEY)
        if address == "auto":
            return []
        parts = urlsplit(address if "://" in address else f"//{address}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((str(parts.hostname), port), timeout=_ANSWERS_WITHIN_S).close()
        except OSError as error:
            raise SiteError(f"no Ray cluster answers at '{address}' (ray.address of the site): {error}") from None
        return [f"Ray: {address} answers"]

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Start the keeper of the run on the cluster, and wait until its controller has begun."""
        from hpctrain.launch.pod import cancelled_path
        from hpctrain.launch.targets.ray_start import start

        need_ray(KEY)
        run, job_id = RunDir(plan.run_dir), f"ray-{secrets.token_hex(4)}"
        cancelled_path(run).unlink(missing_ok=True)  # that of an earlier submission
        log = run.logs / f"{job_id}.log"
        log.touch()  # with the permissions of the run, which Ray's processes do not know
        try:
            start(facts_of(plan).address, plan.run_dir, job_id)
        except BaseException:
            log.unlink(missing_ok=True)
            raise
        return [job_id]

    def home(self, plan: JobPlan) -> str | None:
        """Return None: this machine sees the run directory."""
        return None

    def state(self, job: Job) -> JobState:
        """Return what the controller has written last, unless it is silent or has ended."""
        record = {} if job.run_dir is None else read_record(RunDir(job.run_dir))
        if record.get("job_id") != job.id or record.get("state") not in _STATES:
            return JobState()
        age_s = time.time() - record["time"]
        if age_s > _SILENT_S:
            where = printable(str(record.get("host")))
            return JobState(silent=(f"the controller on {where} has not written for {age_s:.0f} s",))
        words = {key: printable(str(record.get(key, ""))) for key in ("reason", "where")}
        return JobState(record["state"], "controller", **words)

    def logs(self, job: Job) -> list[Path]:
        """Return the logs of the controllers of the run, in which its nodes speak too."""
        if job.run_dir is None:
            return []
        return sorted((job.run_dir / "logs").glob("ray-*.log"), key=lambda path: os.lstat(path).st_mtime)

    def warn(self, job: Job) -> str:
        """Let the ranks save and exit with code 75; the controller starts another attempt."""
        path = warned_path(RunDir(self._required(job)))
        path.touch()
        return f"touch {path}"

    def cancel(self, job: Job) -> str:
        """Ask the controller to end the run; it does so within a second or two."""
        from hpctrain.launch.pod import mark_cancelled

        run = RunDir(self._required(job))
        mark_cancelled(run)
        return (
            f"asked the controller on {printable(str(read_record(run).get('host')))} to stop; its ranks save and exit"
        )

    def _required(self, job: Job) -> Path:
        if job.run_dir is None or self.state(job).state not in _STATES:
            raise SiteError(
                f"no controller of job {job.id} answers, so nothing was asked of it; if Ray still has an actor of this "
                "name, it starts a controller again"
            )
        return job.run_dir


TARGET = RayTarget


def options_of_ray(launch: LaunchSection, site: Site | None) -> Options:
    """Return what a plan has for Ray alone: the facts of the cluster as text, and the fewest nodes."""
    from hpctrain.profile.sections.ray import RaySection

    facts = site.ray if site else RaySection()
    return {"facts": facts.model_dump_json(exclude_defaults=True), "min_nodes": launch.min_nodes or launch.nodes}


def facts_of(plan: JobPlan) -> RaySection:
    """Return the facts of the cluster that :func:`options_of_ray` has put into a plan."""
    from hpctrain.profile.sections.ray import RaySection

    return RaySection.model_validate_json(str(plan.options["facts"]))


def wrong_nodes(plan: JobPlan) -> list[Problem]:
    """Return what is wrong with the fewest nodes of a plan for Ray."""
    if plan.options["min_nodes"] <= plan.resources.nodes:  # type: ignore[operator]
        return []
    message = f"{plan.options['min_nodes']}, and launch.nodes is {plan.resources.nodes}"
    return [Problem("launch.min_nodes", message)]


def request(plan: JobPlan, facts: RaySection) -> dict[str, Any]:
    """Return what the controller asks of Ray: a pure function.

    Parameters
    ----------
    plan : JobPlan
    facts : RaySection
    """
    shape = plan.resources
    bundle: dict[str, float] = {"CPU": shape.ranks_per_node * shape.cpus_per_rank}
    if shape.gpus_per_node:
        bundle["GPU"] = shape.gpus_per_node
    if shape.memory_gib_per_node:
        bundle["memory"] = int(shape.memory_gib_per_node * 2**30)
    return {
        "address": facts.address,
        "bundle_of_each_node": {**bundle, **facts.resources},
        "nodes": shape.nodes,
        "min_nodes": plan.options["min_nodes"],
        "ranks_per_node": shape.ranks_per_node,
        "strategy": "STRICT_SPREAD",
        "wait_s": facts.wait_s,
        "setup": list(plan.setup),
        "command": [sys.executable, "-u", "-m", NODE_MODULE, plan.run_dir],
    }


def record_path(run: RunDir) -> Path:
    """Return the path of the record that the controller of a run renews while it lives."""
    return run.attempts / "controller.json"


def read_record(run: RunDir) -> dict[str, Any]:
    """Return the record of the controller of a run; empty if there is none, or if it is damaged."""
    record = read_json(record_path(run))
    if not isinstance(record, dict) or not is_moment(record.get("time")) or not is_text(record.get("state")):
        return {}
    return record


def warned_path(run: RunDir) -> Path:
    """Return the path of the file whose new time warns the ranks."""
    return run.attempts / "warned"
