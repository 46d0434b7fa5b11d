"""Copy files to the node's own disk before training: one rank of each node copies, and all its ranks read the copies.

The spectra of a step do not depend on it: a copy has the bytes, and so the layout, of the original. So a node whose
disk is full reads the originals, and the run continues.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpctrain.distributed.world import node_name
from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.metrics.events import Event, Staged, StageFellBack
from hpctrain.profile.remote import is_remote
from hpctrain.profile.sections.data import DataSection
from hpctrain.profile.variables import expand
from hpctrain.samples.activity import Activity
from hpctrain.samples.protocols import Samples
from hpctrain.samples.sources import find_sources
from hpctrain.samples.stage import stage
from hpctrain.train.together import Crew

Record = Callable[[Event], None]
"""Writes an event; does nothing on other ranks than rank 0."""


def stage_data(data: DataSection, crew: Crew, record: Record) -> tuple[DataSection, dict[str, str]]:
    """Copy the files of a run to a disk of each node, if its profile asks for that.

    Parameters
    ----------
    data : DataSection
    crew : Crew
    record : callable
        Is called with the event ``staged``, and ``stage_fell_back`` for each node that reads the originals.

    Returns
    -------
    data : DataSection
        Data section with the files that this node should read.
    origins : dict of str to str
        Original of each copy.

    Raises
    ------
    ProfileError
        A variable of ``data.stage`` is not set on a node, or the path is not absolute.
    SiteError
        A node cannot copy the files, and the originals may not or cannot be read instead.
    DataError
        A file is missing, cannot be fetched, or changed while it was copied.
    StoppedBeforeTrainingError
        The job was asked to stop; the next attempt uses the files that were copied.
    """
    if data.stage is None:
        remote = [name for name in data.files if is_remote(name)]
        if remote:
            message = f"is needed to fetch {len(remote)} remote file(s); name a folder of the node, such as ${{TMPDIR}}"
            raise ProfileError("profile.yaml", [Problem("data.stage", message)])
        return data, {}
    started_s = time.monotonic()
    mine = crew.work("staging", lambda activity: _stage_here(data, activity))
    nodes = {found["node"]: found for found in crew.gather(mine)}
    copied = [found for found in nodes.values() if found["fell_back"] is None]
    for found in nodes.values():
        if found["fell_back"] is not None:
            record(StageFellBack(node=found["node"], reason=found["fell_back"]))
    if copied:
        event = Staged(
            nodes=len(copied),
            files=len(copied[0]["paths"]),
            bytes=sum(found["bytes"] for found in copied),
            copied_bytes=sum(found["copied_bytes"] for found in copied),
            seconds=round(time.monotonic() - started_s, 3),
            remote=copied[0]["remote"] or None,
        )
        record(event)
    if mine["fell_back"] is not None:
        return data, {}
    return data.model_copy(update={"files": mine["paths"]}), dict(zip(mine["paths"], mine["names"], strict=True))


def name_originals(source: Samples, origins: Mapping[str, str]) -> None:
    """Let a set that reads copies report the originals: results name their files, and the copies will be removed.

    Parameters
    ----------
    source : Samples
    origins : mapping of str to str
        Originals from :func:`stage_data`.
    """
    if origins:
        found = source.fingerprint()
        resolved = {str(Path(path).resolve()): name for path, name in origins.items()}
        found["files"] = [{**file, "copy_of": resolved[file["path"]]} for file in found["files"]]
        source.copy_of = found


def _stage_here(data: DataSection, activity: Activity) -> dict[str, Any]:
    sources = find_sources(data.files)
    try:
        staged = stage(sources, stage_folder(data.stage), activity)
    except SiteError as error:
        must = "data.stage_required" if data.stage_required else "a remote file"
        if data.stage_required or any(source.is_remote for source in sources):
            raise SiteError(f"data.stage on node {node_name()}: {error} ({must} requires a copy)") from error
        print(
            f"hpctrain: {node_name()} could not copy the files and reads the originals: {error}",
            file=sys.stderr,
            flush=True,
        )
        return {"node": node_name(), "fell_back": str(error)}
    return {
        "node": node_name(),
        "fell_back": None,
        "paths": [str(path) for path in staged.paths],
        "names": [source.name for source in sources],
        "remote": {source.name: source.version for source in sources if source.is_remote},
        "bytes": staged.num_bytes,
        "copied_bytes": staged.copied_bytes,
    }


def stage_folder(text: str) -> Path:
    """Return ``data.stage`` with the variables of this node.

    Raises
    ------
    ProfileError
        A variable is not set here, or the path is relative.
    """
    try:
        path = Path(expand(text, os.environ))
        if not path.is_absolute():
            raise ValueError(f"'{path}' is not an absolute path")
    except ValueError as error:
        message = f"{error} on node {node_name()}; name a folder of the node, such as ${{TMPDIR}} where Slurm sets it"
        raise ProfileError("profile.yaml", [Problem("data.stage", message)]) from None
    return path
