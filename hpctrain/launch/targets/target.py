"""The contract of a target: what the launcher asks of a platform that runs jobs.

A target translates a neutral :class:`~hpctrain.launch.plan.JobPlan` into the platform's own words. What the platform
does well, the platform does. A target keeps no state of its own: a job that was submitted needs no process on the host
from which it was submitted. docs/development.md shows how to write a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hpctrain.states import UNKNOWN

if TYPE_CHECKING:
    from hpctrain.errors import Problem
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.profile.sections.launch import LaunchSection
    from hpctrain.profile.site import Site

ENDING = "ending"
"""State of a job whose ranks have ended, while the platform still cleans up; its record says what follows."""


@dataclass(frozen=True)
class JobState:
    """The state of one job according to its platform.

    Parameters
    ----------
    state : str
        ``pending``, ``running``, ``requeued``, ``finished``, ``cancelled`` or ``failed`` of :mod:`hpctrain.states`, or
        :data:`ENDING`; ``unknown`` if the platform does not know the job, and the run directory is asked.
    source : str
        What has answered, such as ``squeue``.
    words : str
        How the job ended, in the platform's own words.
    reason : str
        Why the job waits; empty if it does not wait.
    start : str
        When the job is expected to start; empty if unknown.
    end : str
        When the job reaches its time limit; empty if unknown.
    where : str
        Where the job runs, such as a list of nodes.
    silent : tuple of str
        For each question that the platform could not answer, the reason.
    """

    state: str = UNKNOWN
    source: str = ""
    words: str = ""
    reason: str = ""
    start: str = ""
    end: str = ""
    where: str = ""
    silent: tuple[str, ...] = field(default=())


class Target(Protocol):
    """A platform that runs jobs.

    Attributes
    ----------
    name : str
        Name of the platform, as ``launch.cluster`` has it.
    requeues : str
        Who starts the next attempt of a run that was stopped before its last step: the job's own ``script``, our
        ``supervisor`` process beside the ranks, or the ``platform`` by the exit code of the ranks.
    has_queue : bool
        Whether a job may wait before it starts, and whether the platform can be asked about it. Where there is no
        queue, the run directory tells the state of a job.
    is_this_machine : bool
        Whether the ranks run on this machine, so that its cores, memory and folders are those of the job.
    runs_images : bool
        Whether the ranks run in a container image, where no path of a Python of this machine means anything.
    engines : tuple of str
        Values of ``launch.engine`` that its jobs can start; a target without the attribute has none.
    """

    name: str
    requeues: Literal["script", "supervisor", "platform"]
    has_queue: bool
    is_this_machine: bool
    runs_images: bool

    def sees_our_files(self, site: Site | None) -> bool:
        """Return whether the ranks see files at the same paths as this machine; if not, nobody looks at data here."""

    def is_available(self) -> bool:
        """Return whether jobs can be submitted from this host; it must be quick, because each check asks."""

    def answers(self) -> bool:
        """Return whether the platform would take jobs now; it may ask the platform, and takes at most some seconds."""

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return the options of a job that only this platform understands, from the profile and the site."""

    def check(self, plan: JobPlan, site: Site | None) -> list[Problem]:
        """Return all reasons why this platform cannot run the plan; empty if there is none. Nothing is asked."""

    def files(self, plan: JobPlan) -> dict[str, str]:
        """Return the text of each file that describes the job to the platform, by name; a pure function.

        The launcher writes them into the run directory, beside ``profile.yaml`` and ``job.json``.
        """

    def ask(self, plan: JobPlan, files: Mapping[str, str]) -> list[str]:
        """Ask the platform whether it would take the job, and return its answer as lines; write and submit nothing.

        Raises
        ------
        SiteError
            The platform would refuse the job, or does not answer.
        """

    def submit(self, plan: JobPlan, files: Mapping[str, Path]) -> list[str]:
        """Submit the job, and return the id of each run: one, or one per task of an array.

        The run directories are complete. `files` has the path of each text of :meth:`files`, of the first run.

        Raises
        ------
        SiteError
            The platform refuses the job, or does not answer.
        """

    def home(self, plan: JobPlan) -> str | None:
        """Return the address of the copy of the run directory that the platform keeps; None where we see the original.

        ``hpctrain pull`` brings it.
        """

    def state(self, job: Job) -> JobState:
        """Return the state of a job; ``unknown`` if the platform does not know it, never an error."""

    def logs(self, job: Job) -> list[Path]:
        """Return the logs of the job itself, oldest first: of its script or its supervisor.

        The ranks write theirs, one file per attempt and rank, to ``logs/`` of the run directory.
        """

    def warn(self, job: Job) -> str:
        """Warn the ranks as the platform does before it ends a job; return the command line that does the same.

        The ranks save, exit with code 75, and another attempt follows.
        """

    def cancel(self, job: Job) -> str:
        """End the job for good, and return what was done; its ranks save first, and no attempt follows.

        Raises
        ------
        SiteError
            The job cannot be cancelled from this host, or the platform refuses.
        """
