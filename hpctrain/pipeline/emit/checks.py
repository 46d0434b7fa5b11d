"""The commands of a job of a forge at each commit: check the profiles and the pipeline, then go through the sample."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hpctrain.pipeline.emit.handover import Handover, inside
from hpctrain.pipeline.section import TRAIN, PipelineSection

PYTHON = "3.12"
TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"
REPORT = "report.html"
NO_SAMPLE = (
    "The pipeline file has no section 'sample', so this only checks. With one, the pipeline itself runs at each commit."
)


def install_command(handover: Handover) -> str:
    """Return the command that installs hpctrain."""
    return shlex.join(["python", "-m", "pip", "install", *(handover.install or ("hpctrain",))])


def check_commands(handover: Handover) -> list[str]:
    """Return the commands that check each profile of the pipeline, without its data, and the pipeline file."""
    commands = []
    for section in (handover.section, handover.sample):
        for stage in section.stages if section else ():
            if stage.does == TRAIN and not stage.skip:
                changes = [word for each in stage.set if "{" not in each for word in ("--set", each)]
                profile = inside(str(stage.profile), f"stage {stage.name}: profile")
                commands.append(shlex.join(["hpctrain", "check", profile, "--no-data", *changes]))
    return [*dict.fromkeys(commands), shlex.join(["hpctrain", "pipeline", handover.inside, "--dry-run", "--no-data"])]


def run_command(handover: Handover) -> str:
    """Return the command that goes through the sample."""
    return shlex.join(["hpctrain", "pipeline", handover.inside, "--sample"])


def report_command(sample: PipelineSection) -> str:
    """Return the command that writes the page of the sample."""
    places = ["--folder", inside(sample.folder, "folder"), "--out", REPORT]
    return shlex.join(["hpctrain", "pipeline", "report", sample.name, *places])


def results_of(sample: PipelineSection) -> str:
    """Return the folder of the sample's results."""
    return os.path.join(inside(sample.folder, "folder"), sample.name)


def place_in_repository() -> str:
    """Return the current folder, relative to the root of its Git repository; ``.`` if it is the root, or in none."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return str(here.relative_to(root))


def in_repository(path: str) -> str:
    """Return a path below the current folder, relative to the root of the repository."""
    return os.path.normpath(os.path.join(place_in_repository(), path))
