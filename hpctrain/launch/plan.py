"""Turn a profile and a site into a :class:`JobPlan`, which holds everything that a job needs.

This module reads no file and no clock and runs no command, and it knows no platform. A target
(:mod:`hpctrain.launch.targets`) turns a plan into a batch script, into processes, or into what else its platform takes.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpctrain.access import UMASKS

if TYPE_CHECKING:
    from hpctrain.launch.targets.target import Target
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

TRAINER_MODULE = "hpctrain.train"
ARRAY_TASK = "%a"
"""Placeholder for the index of an array's task in the path of the run directory of a plan."""

NOTHING_TO_DO = 79
"""Exit code of the command before the ranks (`prepare`) if the job needs none; the job itself then exits with 0."""

Options = dict[str, str | int | bool]


@dataclass(frozen=True)
class Job:
    """A job that was submitted: everything that a target needs to find it again.

    Parameters
    ----------
    id : str
        The platform's id of the job; empty if it is not recorded.
    cluster : str
        Name of the target that it was submitted to, as in ``launch.cluster``.
    run_dir : Path or None
        Its run directory; None for a job that hpctrain did not submit.
    name : str
        Name of the job in the queue; empty if unknown.
    """

    id: str
    cluster: str
    run_dir: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class Resources:
    """The shape of a job.

    Parameters
    ----------
    nodes, ranks_per_node, gpus_per_node, cpus_per_rank : int
    memory_gib_per_node : float or None
        Host memory of each node [GiB]; None means the platform's default.
    """

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int
    memory_gib_per_node: float | None = None

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class JobPlan:
    """One job, or one array of equal jobs, in the words of no platform.

    Parameters
    ----------
    name : str
        Name of the job in the queue.
    run_dir : str
        Absolute path of the run directory; an array has :data:`ARRAY_TASK` where the task's index goes.
    resources : Resources
    time_limit_s : int
        Time limit of one attempt [s].
    lead_s : int
        The platform warns the ranks this long before the time limit [s].
    environment : dict
        Variables of the ranks in addition to those that the job inherits.
    setup : tuple of str
        Shell lines to run before the ranks start: modules, environment variables, the site's own lines.
    command : tuple of str
        Command of every rank, without its last argument, the run directory.
    requeue : bool
        Whether another attempt follows an attempt that stopped before the last step.
    max_attempts, max_attempts_without_progress : int
        Limits of the number of attempts.
    after : tuple of Job
        Jobs that must have finished well before this one starts; if one of them ends otherwise, this one never starts.
    tasks : tuple of int
        Index of each task of an array; empty for a single job.
    at_once : int or None
        Largest number of tasks that run at the same time; None means all.
    prepare : tuple of str
        Command to run on the first node before the ranks of each attempt, without its last argument, the run directory;
        empty if there is none. With code 0 the ranks start, with :data:`NOTHING_TO_DO` the job ends well without them;
        any other code ends the attempt as if a rank had exited with it.
    beside : tuple of str
        Command that the first node runs beside the ranks of each attempt, without its arguments: the run directory, the
        id of the job, and the number of requeues. It ends by itself after the attempt. Empty if there is none.
    mirror : str or None
        ``checkpoint.mirror`` of the profile.
    data_files : tuple of str
        ``data.files`` of the profile, for a platform that brings remote data into its containers.
    save_s : float or None
        Longest time that a checkpoint of this run has taken so far [s]; None if it has none.
    options : dict
        Options that only the target understands, from :meth:`~hpctrain.launch.targets.target.Target.options`.
    """

    name: str
    run_dir: str
    resources: Resources
    time_limit_s: int
    lead_s: int
    environment: dict[str, str]
    setup: tuple[str, ...]
    command: tuple[str, ...]
    requeue: bool
    max_attempts: int
    max_attempts_without_progress: int
    after: tuple[Job, ...] = ()
    tasks: tuple[int, ...] = ()
    at_once: int | None = None
    prepare: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    mirror: str | None = None
    data_files: tuple[str, ...] = ()
    save_s: float | None = None
    options: Options = field(default_factory=dict)


class HasLaunch(Protocol):
    """What a plan needs of a profile."""

    @property
    def name(self) -> str:
        """Name of the job in the queue."""

    @property
    def launch(self) -> LaunchSection:
        """What the job asks of the platform."""


def plan_job(
    profile: HasLaunch,
    run_dir: Path,
    target: Target,
    site: Site | None = None,
    *,
    tasks: tuple[int, ...] = (),
    at_once: int | None = None,
    command: tuple[str, ...] | None = None,
    prepare: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    after: tuple[Job, ...] = (),
    save_s: float | None = None,
) -> JobPlan:
    """Return the plan of the job that trains `profile`, or does what `command` says, in `run_dir`.

    Parameters
    ----------
    profile : Profile, or another object with a name and a launch section
        Checked.
    run_dir : Path
        Absolute; its name ends with :data:`ARRAY_TASK` when there are `tasks`.
    target : Target
        Translates the keys of the profile and the site that only it understands.
    site : Site, optional
        Facts of the cluster; the profile's own values override its defaults.
    tasks : tuple of int
        Index of each task of an array, each with its own run directory; empty means a single job.
    at_once : int, optional
        Largest number of tasks that run at the same time.
    command : tuple of str, optional
        Command of every rank; None means the trainer of this installation.
    prepare : tuple of str
        Command to run before the ranks start.
    beside : tuple of str
        Command to run beside the ranks.
    after : tuple of Job
        Jobs that must have finished well before this one starts.
    save_s : float, optional
        Longest time that a checkpoint of a run that is resumed has taken [s].
    """
    from hpctrain.profile.sections.base import parse_time_limit_s  # pydantic, which status does not need

    launch = profile.launch
    environment = _environment(launch, site)
    return JobPlan(
        name=profile.name,
        run_dir=str(run_dir),
        resources=Resources(
            nodes=launch.nodes,
            ranks_per_node=launch.ranks_on_each_node,
            gpus_per_node=launch.gpus_per_node,
            cpus_per_rank=launch.cpus_per_rank,
            memory_gib_per_node=launch.memory_gib_per_node,
        ),
        time_limit_s=parse_time_limit_s(launch.attempt_limit),
        lead_s=launch.signal_lead_s,
        environment=environment,
        setup=_setup_lines(site, environment, launch.access),
        command=command or module_command(TRAINER_MODULE, site, runs_images=target.runs_images),
        requeue=launch.requeue,
        max_attempts=launch.max_attempts,
        max_attempts_without_progress=launch.max_attempts_without_progress,
        after=after,
        tasks=tasks,
        at_once=at_once,
        prepare=prepare,
        beside=beside,
        mirror=getattr(getattr(profile, "checkpoint", None), "mirror", None),
        data_files=tuple(getattr(getattr(profile, "data", None), "files", ())),
        save_s=save_s,
        options=target.options(launch, site),
    )


def checkout_root() -> Path | None:
    """Return the root of the checkout that this code runs from; None if this code runs from an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "setup.cfg").exists() else None


def _environment(launch: LaunchSection, site: Site | None) -> dict[str, str]:
    environment = {"OMP_NUM_THREADS": str(launch.cpus_per_rank), "PYTHONUNBUFFERED": "1"}
    if site:
        environment |= {name: str(value) for name, value in site.environment.items()}
    return environment


def _setup_lines(site: Site | None, environment: dict[str, str], access: str | None) -> tuple[str, ...]:
    lines = [] if access is None else [f"umask {UMASKS[access]:03o}"]
    lines += [f"module load {shlex.join(site.modules)}"] if site and site.modules else []
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if root := checkout_root():
        lines.append(f"export PYTHONPATH={shlex.quote(str(root))}" + "${PYTHONPATH:+:$PYTHONPATH}")
    return (*lines, *(site.setup if site else ()))


def module_command(module: str, site: Site | None, runs_images: bool = False) -> tuple[str, ...]:
    """Return the command that runs a module of hpctrain on a node, in the container of the site if it has one.

    With `runs_images` the whole job runs in an image, whose Python it is.
    """
    container = site.container if site and not runs_images else None
    prefix = shlex.split(container) if container else []
    python = "python3" if container or runs_images else sys.executable
    return (*prefix, python, "-u", "-m", module)
