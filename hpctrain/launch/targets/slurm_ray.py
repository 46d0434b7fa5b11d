"""``launch.engine: ray`` of a job on Slurm: the batch script starts Ray on the nodes of its allocation.

Slurm sees a job with one task per node (:mod:`hpctrain.launch.targets.slurm_ray_node`) that ends with the codes of any
other job; so the batch script requeues it by the same rule. Inside, the attempts follow each other as on a Ray cluster.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hpctrain.errors import Problem
from hpctrain.launch.plan import module_command
from hpctrain.launch.targets.ray import REQUEST, facts_of, options_of_ray, request, wrong_nodes
from hpctrain.launch.targets.ray_cluster import need_ray

if TYPE_CHECKING:
    from hpctrain.launch.plan import JobPlan, Options
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

NODE_MODULE = "hpctrain.launch.targets.slurm_ray_node"
ENGINE = "ray"


def options_inside(launch: LaunchSection, site: Site | None) -> Options:
    """Return what the plan of a job has for Ray; nothing if Slurm runs the ranks."""
    return options_of_ray(launch, site) if launch.engine == ENGINE else {}


def runs_ray(plan: JobPlan) -> bool:
    """Return whether the job of a plan starts Ray on its nodes."""
    return "facts" in plan.options


def need_engine(plan: JobPlan) -> None:
    """Check that this Python, which the job uses on its nodes, has Ray if the job starts it.

    Raises
    ------
    SiteError
        It has not.
    """
    if runs_ray(plan):
        need_ray("launch.engine: ray")


def is_elastic(plan: JobPlan) -> bool:
    """Return whether a job with Ray goes on with fewer nodes than it asks for."""
    return runs_ray(plan) and plan.options["min_nodes"] < plan.resources.nodes  # type: ignore[operator]


def for_sbatch(plan: JobPlan, options: Options) -> Options:
    """Return the options of sbatch for a plan: its own and `options`, which win. With Ray a task is a node."""
    options = {name: value for name, value in plan.options.items() if name not in ("facts", "min_nodes")} | options
    if not runs_ray(plan):
        return options
    shape = plan.resources
    options |= {"ntasks-per-node": 1, "cpus-per-task": shape.ranks_per_node * shape.cpus_per_rank}
    if is_elastic(plan):
        del options["ntasks-per-node"]  # with it, Slurm takes the fewest nodes even if there are more
        options |= {"nodes": f"{plan.options['min_nodes']}-{shape.nodes}", "no-kill": True}
    return options


def script_lines(plan: JobPlan) -> list[str]:
    """Return the lines of the batch script, in front of the attempt, that say whether its command runs Ray."""
    if not runs_ray(plan):
        return ["runs_ray=no"]
    return [
        f"runs_ray={'elastic' if is_elastic(plan) else 'yes'}",
        # Others who have access to the nodes could else run programs in our name.
        "export RAY_AUTH_MODE=token",
        "RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n') && export RAY_AUTH_TOKEN",
    ]


def command_of_tasks(plan: JobPlan) -> tuple[str, ...]:
    """Return the command of each task of the job, without its last argument, the run directory."""
    return module_command(NODE_MODULE, None) if runs_ray(plan) else plan.command


def files_for_ray(plan: JobPlan) -> dict[str, str]:
    """Return ``ray.json``, which says what the job asks of the Ray that it has started; nothing without Ray."""
    if not runs_ray(plan):
        return {}
    asked = {**request(plan, facts_of(plan)), "address": "of the job", "setup": []}  # the batch script has set up
    return {REQUEST: json.dumps(asked, indent=2) + "\n"}


def check_inside(plan: JobPlan, site: Site | None) -> list[Problem]:
    """Return what a job cannot do with Ray on its nodes."""
    if not runs_ray(plan):
        return []
    problems = wrong_nodes(plan)
    refused = {
        "--array": (bool(plan.tasks), "its runs need a job each"),
        "launch.cluster": (bool(plan.prepare), "searches and pipelines do without; see engine: ray of a study"),
        "launch.site": (bool(site and site.container), "Ray would have to be inside and outside of its container"),
    }
    return problems + [
        Problem(where, f"not with launch.engine: ray: {why}") for where, (is_so, why) in refused.items() if is_so
    ]
