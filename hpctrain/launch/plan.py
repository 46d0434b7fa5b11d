"""Turn a profile and a site into a :class:`JobPlan`, which holds everything that a job needs.

This module reads no file and no clock and runs no command. ``slurm.py`` turns a plan into a batch script, ``local.py``
into processes.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import SiteError
from hpctrain.profile.schema import LaunchSection, Profile

if TYPE_CHECKING:
    from hpctrain.profile.site import Site

TRAINER_MODULE = "hpctrain.train"
ARRAY_TASK = "%a"
"""Placeholder for the index of an array's task in the paths of a plan, as in Slurm's own file patterns."""

_FORBIDDEN_IN_PATHS = {"\n": "a line break", "\r": "a carriage return", "\\": "a backslash", "\t": "a tab"}


@dataclass(frozen=True)
class JobPlan:
    """One job, or one array of equal jobs, ready to be rendered.

    Parameters
    ----------
    name : str
        Name of the job in the queue.
    run_dir : str
        Absolute path of the run directory; an array has :data:`ARRAY_TASK` where the task's index goes.
    sbatch : dict
        Long sbatch options without the dashes; True is a flag without a value.
    setup : tuple of str
        Shell lines to run before the ranks start: modules, environment variables, the site's own lines.
    trainer : tuple of str
        Command of every rank, without its last argument, the run directory.
    num_nodes, ranks_per_node, gpus_per_node, cpus_per_rank : int
        Shape of the job.
    requeue : bool
        Whether another attempt follows an attempt that stopped before the last step.
    max_attempts, max_attempts_without_progress : int
        Limits of the number of attempts.
    environment : dict
        Variables of the ranks in addition to those that the job inherits.
    array_size : int or None
        Number of tasks of an array.
    """

    name: str
    run_dir: str
    sbatch: dict[str, str | int | bool]
    setup: tuple[str, ...]
    trainer: tuple[str, ...]
    num_nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int
    requeue: bool
    max_attempts: int
    max_attempts_without_progress: int
    environment: dict[str, str] = field(default_factory=dict)
    array_size: int | None = None

    @property
    def world_size(self) -> int:
        return self.num_nodes * self.ranks_per_node


def plan_job(
    profile: Profile,
    run_dir: Path,
    site: Site | None = None,
    array_size: int | None = None,
    trainer: tuple[str, ...] | None = None,
) -> JobPlan:
    """Return the plan of the job that trains `profile` in `run_dir`.

    Parameters
    ----------
    profile : Profile
        Checked.
    run_dir : Path
        Absolute; its name ends with :data:`ARRAY_TASK` when `array_size` is given.
    site : Site, optional
        Facts of the cluster; the profile's own values override its defaults.
    array_size : int, optional
        Number of tasks of an array, each with its own run directory; None means a single job.
    trainer : tuple of str, optional
        Command of every rank; None means the trainer of this installation.

    Raises
    ------
    SiteError
        The path of the run directory cannot be written into a batch script.
    """
    _refuse_odd_paths(run_dir)
    launch = profile.launch
    environment = _environment(launch, site)
    return JobPlan(
        name=profile.name,
        run_dir=str(run_dir),
        sbatch=_sbatch_options(profile, run_dir, site),
        setup=_setup_lines(site, environment),
        trainer=trainer or _trainer_command(site, run_dir),
        num_nodes=launch.nodes,
        ranks_per_node=launch.ranks_on_each_node,
        gpus_per_node=launch.gpus_per_node,
        cpus_per_rank=launch.cpus_per_rank,
        requeue=launch.requeue,
        max_attempts=launch.max_attempts,
        max_attempts_without_progress=launch.max_attempts_without_progress,
        environment=environment,
        array_size=array_size,
    )


def attempt_script() -> str:
    """Return the shell text that runs one attempt and decides what follows; every job script ends with it."""
    return resources.files("hpctrain.launch").joinpath("attempt.sh").read_text(encoding="utf-8")


def setup_script(plan: JobPlan) -> list[str]:
    """Return the shell lines that come before :func:`attempt_script` in the job script of `plan`."""
    run_dir = shlex.quote(plan.run_dir)
    if plan.array_size:
        run_dir = shlex.quote(plan.run_dir.removesuffix(ARRAY_TASK)) + '"$SLURM_ARRAY_TASK_ID"'
    return [
        *plan.setup,
        f"run_dir={run_dir}",
        f"trainer=({shlex.join(plan.trainer)})",
        f"requeue={'yes' if plan.requeue else 'no'}",
        f"max_attempts={plan.max_attempts}",
        f"max_attempts_without_progress={plan.max_attempts_without_progress}",
    ]


def checkout_root() -> Path | None:
    """Return the root of the checkout that this code runs from; None if this code runs from an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "setup.cfg").exists() else None


def _refuse_odd_paths(run_dir: Path) -> None:
    """Refuse paths with characters that Slurm reads differently in ``#SBATCH`` lines."""
    for character, name in _FORBIDDEN_IN_PATHS.items():
        if character in str(run_dir):
            raise SiteError(
                f"{str(run_dir)!r}: the path of a run directory must not contain {name}; Slurm cannot write logs "
                "there. Choose another launch.runs_dir."
            )


def _sbatch_options(profile: Profile, run_dir: Path, site: Site | None) -> dict[str, str | int | bool]:
    launch = profile.launch
    # Slurm replaces %j, %a ... in the names of log files, so a percent sign of the path itself must be doubled.
    folder = str(run_dir).removesuffix(ARRAY_TASK)
    is_array = folder != str(run_dir)
    logs = folder.replace("%", "%%") + (ARRAY_TASK if is_array else "") + "/logs"
    options: dict[str, str | int | bool] = dict(site.sbatch) if site else {}
    options |= {
        "job-name": profile.name,
        "nodes": launch.nodes,
        "ntasks-per-node": launch.ranks_on_each_node,
        "cpus-per-task": launch.cpus_per_rank,
        "time": launch.time_limit,
        "signal": f"USR2@{launch.signal_lead_s}",
        "requeue" if launch.requeue else "no-requeue": True,
        "open-mode": "append",  # the default truncates the log of every earlier attempt
        "output": f"{logs}/job-{'%A_%a' if is_array else '%j'}-batch.log",
    }
    if launch.gpus_per_node:
        options |= _gpu_option(launch, site)
    if launch.memory_gib_per_node is not None:
        options["mem"] = f"{round(launch.memory_gib_per_node * 1024)}M"
    partition = launch.partition or (site.default_partition if site else None)
    named = {
        "partition": partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "reservation": launch.reservation,
        "exclude": ",".join(launch.exclude),
    }
    options |= {name: value for name, value in named.items() if value}
    options |= launch.sbatch
    return {name: value for name, value in options.items() if value is not False}


def _gpu_option(launch: LaunchSection, site: Site | None) -> dict[str, str | int | bool]:
    kind = site.gpu_type if site else None
    count = f"{kind}:{launch.gpus_per_node}" if kind else str(launch.gpus_per_node)
    if site and site.gpu_option == "gres":
        return {"gres": f"gpu:{count}"}
    return {"gpus-per-node": count}


def _environment(launch: LaunchSection, site: Site | None) -> dict[str, str]:
    environment = {"OMP_NUM_THREADS": str(launch.cpus_per_rank), "PYTHONUNBUFFERED": "1"}
    if site:
        environment |= {name: str(value) for name, value in site.environment.items()}
    return environment


def _setup_lines(site: Site | None, environment: dict[str, str]) -> tuple[str, ...]:
    lines = [f"module load {shlex.join(site.modules)}"] if site and site.modules else []
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if root := checkout_root():
        lines.append(f"export PYTHONPATH={shlex.quote(str(root))}" + "${PYTHONPATH:+:$PYTHONPATH}")
    return (*lines, *(site.setup if site else ()))


def _trainer_command(site: Site | None, run_dir: Path) -> tuple[str, ...]:
    container = site.container if site else None
    prefix = shlex.split(container) if container else []
    python = "python3" if container else sys.executable
    return (*prefix, python, "-u", "-m", TRAINER_MODULE)
