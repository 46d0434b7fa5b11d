"""What all platforms need to know of a pipeline that they are to run, and the text that each gets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hpctrain import __version__
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import checkout_root
from hpctrain.pipeline.kinds import waits_for
from hpctrain.pipeline.section import PipelineSection
from hpctrain.profile.near import did_you_mean

PLATFORMS: Mapping[str, str] = {
    "airflow": "hpctrain.pipeline.emit.airflow",
    "kubeflow": "hpctrain.pipeline.emit.kubeflow",
    "github": "hpctrain.pipeline.emit.github",
    "gitlab": "hpctrain.pipeline.emit.gitlab",
}
"""Module of each platform. Its function ``text(handover)`` returns the file."""


@dataclass(frozen=True)
class Handover:
    """A pipeline, and where and how it is called.

    Parameters
    ----------
    file : str
        Pipeline file as the user named it.
    section : PipelineSection
        With absolute paths.
    sample : PipelineSection or None
        The pipeline on a small sample; None if the file has no section ``sample``.
    cluster : str or None
        Target instead of that of the file.
    every : str or None
        ``5m``, ``6h`` or ``1d``; None if only people start it.
    folder : str or None
        Folder in which the stages are called there; None means the current one, or what is usual on the platform.
    image : str or None
        Container image with hpctrain.
    claim : str or None
        Name of the volume claim that holds `folder`.
    install : tuple of str
        What pip installs: hpctrain, and what commands of the user need.
    """

    file: str
    section: PipelineSection
    sample: PipelineSection | None = None
    cluster: str | None = None
    every: str | None = None
    folder: str | None = None
    image: str | None = None
    claim: str | None = None
    install: tuple[str, ...] = ()

    @property
    def needs(self) -> dict[str, list[str]]:
        """Names of the stages that each stage waits for; skipped stages are left out."""
        return {each.name: waits_for(self.section, each) for each in self.section.stages if not each.skip}

    @property
    def inside(self) -> str:
        """The pipeline file, relative to the current folder.

        Raises
        ------
        ProfileError
            It is not below this folder.
        """
        return inside(self.file, "PIPELINE.yaml")

    @property
    def note(self) -> str:
        """Line that says where a file comes from."""
        return f"Written by 'hpctrain pipeline emit' (hpctrain {__version__}) from {os.path.basename(self.file)}."


def emit(platform: str, handover: Handover) -> str:
    """Return the text of the file for a platform.

    Raises
    ------
    ProfileError
        There is no such platform, or it cannot run the pipeline.
    """
    if platform not in PLATFORMS:
        message = f"cannot emit '{platform}'{did_you_mean(platform, PLATFORMS)}; there are {', '.join(PLATFORMS)}"
        raise ProfileError("command line", [Problem("", message)])
    return import_module(PLATFORMS[platform]).text(handover)


def inside(path: str, key: str) -> str:
    """Return a path relative to the current folder.

    Raises
    ------
    ProfileError
        It is not below this folder, so it would be another one elsewhere.
    """
    found = os.path.relpath(path)
    if found.startswith(os.pardir):
        message = f"{path} is not below {Path.cwd()}, and only this folder is there too; call the command further up"
        raise ProfileError("command line", [Problem(key, message)])
    return found


def command_here(handover: Handover) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs the pipeline with this Python, without a stage, and the variables that it needs."""
    file = handover.inside if handover.folder else os.path.abspath(handover.file)
    environment = {"PYTHONPATH": str(root)} if (root := checkout_root()) else {}
    return [sys.executable, "-m", "hpctrain", "pipeline", file], environment


def python(value: object) -> str:
    """Return strings, numbers, None, and lists and dictionaries of them as Python, an entry of a dictionary a line."""
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        lines = [f"    {json.dumps(key)}: {json.dumps(each, ensure_ascii=False)},\n" for key, each in value.items()]
        return "{\n" + "".join(lines) + "}" if lines else "{}"
    return json.dumps(value, ensure_ascii=False)
