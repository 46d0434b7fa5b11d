"""What the managed clouds have in common: their command line tools, machines, and how a run's files get there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpctrain.checkpoint.whole import newest_whole
from hpctrain.credentials.urls import without_secrets
from hpctrain.errors import HpctrainError, Problem, SiteError
from hpctrain.profile.remote import scheme_of
from hpctrain.profile.site import Site, load_site
from hpctrain.rundir import RunDir
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.launch.plan import Job, JobPlan, Options
    from hpctrain.profile.sections.launch import LaunchSection

_FILES_OF_A_RUN = ("profile.yaml", "job.json", "provenance.json")
_ANSWERS_WITHIN_S = 120.0
_SITE = re.compile(r"(?m)^  site: ['\"]?([A-Za-z0-9._-]+)")


class CloudTarget:
    """What the targets of all clouds have in common.

    Attributes
    ----------
    name : str
        Name of the target, of its section of a site, and of its machines in :mod:`hpctrain.profile.instances`.
    title : str
        What messages call it.
    command : str
        Command line tool of the cloud.
    """

    name: str
    title: str
    command: str
    requeues: Literal["script", "supervisor", "platform"] = "platform"
    has_queue = True
    is_this_machine = False
    runs_images = True

    def sees_our_files(self, site: Site | None) -> bool:
        """Return False: the machines of a job see buckets alone."""
        return False

    def is_available(self) -> bool:
        """Return whether this host has the command line tool."""
        return shutil.which(self.command) is not None

    def options(self, launch: LaunchSection, site: Site | None) -> Options:
        """Return the facts of the site as text, the image, and the type of the machines."""
        facts = getattr(site or Site(), self.name)
        return {
            "facts": facts.model_dump_json(exclude_defaults=True),
            "image": launch.image or facts.image or "",
            "instance_type": launch.instance_type or "",
            "spot": launch.spot,
        }

    def home(self, plan: JobPlan) -> str | None:
        """Return None: the mirror of the profile has the copy."""
        return None

    def logs(self, job: Job) -> list[Path]:
        """Return nothing: the cloud keeps what the containers print; ``hpctrain pull`` brings the logs of the ranks."""
        return []

    def warn(self, job: Job) -> str:
        """Raise: a cloud can stop a job for good only."""
        raise SiteError(f"{job.id}: {self.title} cannot warn a job; hpctrain cancel saves, and --resume goes on")

    def refuse_if_foreign(self, job: Job, file: str) -> None:
        """Raise an error if another user wrote what was sent: the job id beside it could name another job of ours."""
        if job.run_dir is not None and os.lstat(job.run_dir / file).st_uid != os.geteuid():
            raise SiteError(f"{job.run_dir / file} belongs to another user; nothing was cancelled")


def call(
    *command: str, stdin: str | None = None, within_s: float = _ANSWERS_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    """Run the command line tool of a cloud; a missing tool and a silent cloud are answers too."""
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=within_s, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]} command on this host")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} did not answer in time")


def required(done: subprocess.CompletedProcess[str], what: str) -> str:
    """Return what a tool printed.

    Raises
    ------
    SiteError
        It failed; the message says `what`, and quotes it.
    """
    if done.returncode != 0:
        raise SiteError(f"{what}: {error_of(done)}")
    return done.stdout


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a tool printed about its error."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return printable(lines[-1] if lines else f"exit code {done.returncode}")


def texts_of(run: Path) -> dict[str, str]:
    """Return the files of a run directory that its ranks need."""
    return {name: (run / name).read_text(encoding="utf-8") for name in _FILES_OF_A_RUN if (run / name).exists()}


def number_of_submission(run: Path) -> int:
    """Return 1 for the first submission of a run, 2 for the next: a cloud takes no name of a job a second time."""
    return len(RunDir(run).read_job().get("submissions", [])) + 1


def numbered_folders(files: Iterable[str]) -> dict[str, str]:
    """Return a name, ``data0`` and so on, for each folder that some files are in."""
    folders = dict.fromkeys(name.rpartition("/")[0] for name in files)
    return {folder: f"data{index}" for index, folder in enumerate(folders)}


def with_data_files(profile: str, there: Callable[[list[str]], dict[str, str]]) -> str:
    """Return the text of a profile whose ``data.files`` are named as the container sees them.

    Parameters
    ----------
    profile : str
        Text of ``profile.yaml``.
    there : callable
        Gets ``data.files``; returns the folder in the container for each remote folder. Other files keep their names.
    """
    import yaml

    document = yaml.safe_load(profile)
    files = document["data"]["files"]
    folders, parts = there(files), [name.rpartition("/") for name in files]
    document["data"]["files"] = [f"{folders.get(folder, folder)}{slash}{name}" for folder, slash, name in parts]
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def send_checkpoint(run: RunDir, mirror: str | None) -> None:
    """Send the newest whole checkpoint of this host, and the records, to a mirror that has none as new.

    A run that has trained here, or was pulled from elsewhere, would begin again there otherwise.

    Parameters
    ----------
    run : RunDir
    mirror : str or None
        ``checkpoint.mirror`` of the profile.

    Raises
    ------
    CheckpointError
        The mirror cannot be reached.
    """
    step, _ = newest_whole(run)
    if step is None:
        return
    if mirror is None:
        text = f"the checkpoint of step {step} is not sent; a run that should go on from it needs checkpoint.mirror"
        print(f"warning: {text}", file=sys.stderr)
        return
    from hpctrain.checkpoint.mirror import Mirror, push_if_newer

    if push_if_newer(Mirror.of(run, mirror), run, step):
        print(f"sent the checkpoint of step {step} to {without_secrets(mirror)}")


def site_of_run(run: Path | None) -> Site | None:
    """Return the site of a run by its profile; None if it names none, or one that is not here."""
    if run is None:
        return None
    try:
        found = _SITE.search((run / "profile.yaml").read_text(encoding="utf-8"))
        return load_site(found[1]) if found else None
    except (OSError, HpctrainError):
        return None


def what_only_slurm_does(plan: JobPlan) -> list[Problem]:
    """Return a problem for an image that is missing, and for each part of a plan that no cloud can do."""
    problems = []
    if not plan.options["image"]:
        problems.append(
            Problem(
                "launch.image",
                "the ranks run in a container image; name one with hpctrain in it (hpctrain image writes a Dockerfile)",
            )
        )
    if plan.tasks:
        problems.append(Problem("--array", "needs Slurm; submit the runs one after the other"))
    problems += [Problem("--after", f"'{job.id}': no job there can wait for another one") for job in plan.after]
    if plan.prepare:
        problems.append(Problem("launch.cluster", "searches and pipelines run on slurm and local"))
    return problems


def needs_a_mirror(plan: JobPlan) -> list[Problem]:
    """Return a problem for a run whose only copy would be on the disk of a machine that may be taken away."""
    if plan.mirror is not None and scheme_of(plan.mirror) not in (None, "file"):
        return []
    message = "is needed: the disk of a machine there ends with it; give the address of a bucket"
    if plan.mirror is not None:
        message = f"'{plan.mirror}' is a folder on the disk of a machine there, which ends with it; name a bucket"
    return [Problem("checkpoint.mirror", message)]


def instance_problems(cloud: str, plan: JobPlan, example: str) -> list[Problem]:
    """Return what the chosen type of machine has not, or has too much of; `example` is one for those who chose none."""
    from hpctrain.profile.instances import find_instance, instance_names
    from hpctrain.profile.near import did_you_mean

    wanted, shape = str(plan.options["instance_type"]), plan.resources
    known = find_instance(cloud, wanted)
    if not wanted:
        return [
            Problem(
                "launch.instance_type",
                f"name the machines, such as {example}; hpctrain platforms --machines {cloud} lists them",
            )
        ]
    if known is None:
        names = instance_names(cloud)
        return [Problem("launch.instance_type", f"there is no '{wanted}' in our list{did_you_mean(wanted, names)}")]
    problems = []
    if shape.gpus_per_node > known.gpus:
        problems.append(Problem("launch.gpus_per_node", f"{shape.gpus_per_node}, and {wanted} has {known.gpus}"))
    elif shape.gpus_per_node < known.gpus:
        message = f"{shape.gpus_per_node}, and {wanted} has {known.gpus}, all of which cost; use them, or a smaller one"
        problems.append(Problem("launch.gpus_per_node", message))
    cores = shape.ranks_per_node * shape.cpus_per_rank
    if cores > known.vcpus:
        problems.append(Problem("launch.cpus_per_rank", f"{cores} cores in all, and {wanted} has {known.vcpus}"))
    if shape.memory_gib_per_node is not None and shape.memory_gib_per_node > known.memory_gib:
        message = f"{shape.memory_gib_per_node:g} GiB, and {wanted} has {known.memory_gib:g}"
        problems.append(Problem("launch.memory_gib_per_node", message))
    return problems
