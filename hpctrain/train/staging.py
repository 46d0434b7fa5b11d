"""Files on the node's own disk before training: one rank of each node copies, all of the node read the copies.

Which spectra an update sees does not depend on it: a copy has the bytes, and so the layout, of the original. So a node
whose disk is full reads from where the files are, and the run goes on.
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
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import DataSection
from hpctrain.profile.variables import expand
from hpctrain.spectra.activity import Activity
from hpctrain.spectra.hdf5 import SpectraSet
from hpctrain.spectra.sources import find_sources
from hpctrain.spectra.stage import stage
from hpctrain.train.together import Crew

Record = Callable[..., Any]
"""Writes an event: name, then its fields by keyword; does nothing but on rank 0."""


def stage_data(data: DataSection, crew: Crew, record: Record) -> tuple[DataSection, dict[str, str]]:
    """Copy the files of a run to a disk of each node, if its profile asks for that.

    Parameters
    ----------
    data : DataSection
    crew : Crew
    record : callable
        Told ``staged``, and ``stage_fell_back`` for each node that reads the originals.

    Returns
    -------
    data : DataSection
        With the files that this node should read.
    origins : dict of str to str
        What each of them is a copy of.

    Raises
    ------
    ProfileError
        A variable of ``data.stage`` is not set on a node, or it is no absolute path.
    SiteError
        A node cannot stage, and must.
    DataError
        A file is missing, cannot be fetched, or changed while it was copied.
    StoppedBeforeTrainingError
        The job was asked to stop; what was copied stays for the next attempt.
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
            record("stage_fell_back", node=found["node"], reason=found["fell_back"])
    if copied:
        record(
            "staged",
            nodes=len(copied),
            files=len(copied[0]["paths"]),
            bytes=sum(found["bytes"] for found in copied),
            copied_bytes=sum(found["copied_bytes"] for found in copied),
            seconds=round(time.monotonic() - started_s, 3),
            **({"remote": copied[0]["remote"]} if copied[0]["remote"] else {}),
        )
    if mine["fell_back"] is not None:
        return data, {}
    return data.model_copy(update={"files": mine["paths"]}), dict(zip(mine["paths"], mine["names"], strict=True))


def name_originals(source: SpectraSet, origins: Mapping[str, str]) -> None:
    """Have a set that reads copies say what they are copies of: results name their files, and the copies will be gone.

    Parameters
    ----------
    source : SpectraSet
    origins : mapping of str to str
        As :func:`stage_data` returned it.
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
            raise SiteError(f"data.stage on node {node_name()}: {error} ({must} leaves no other way)") from error
        print(f"hpctrain: not staged on {node_name()}, reads the originals: {error}", file=sys.stderr, flush=True)
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
    """Return ``data.stage`` as this node knows it.

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
