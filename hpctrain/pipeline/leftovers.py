"""What can go from pipelines: what failed stages have left, and results that no time through the pipeline uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpctrain.errors import CheckpointError, HpctrainError
from hpctrain.pipeline.folder import FILE, RESULT, PipelineDir
from hpctrain.pipeline.run import job_states, only_one
from hpctrain.registry.leftovers import Leftover, leftover, remove_path
from hpctrain.registry.needed import Needs
from hpctrain.states import ACTIVE
from hpctrain.trail.note import note

WORK, STORE = "work", "store"
MEANINGS = {
    WORK: "what stages of pipelines that failed have left",
    STORE: "results of pipeline stages that no time through the pipeline uses any more",
}
"""Every kind of leftover of a pipeline."""


def leftovers_of_pipelines(pipelines: Path, needs: Needs) -> Iterator[Leftover]:
    """Yield what can go from the pipelines below a folder, those that are active excepted.

    Results of a stage stay while any time through the pipeline, any profile, registered version or other result names
    their key, and those that were made last always stay.
    """
    for folder in sorted(pipelines.glob("*/store")):
        times = [PipelineDir(path.parent) for path in sorted(folder.parent.glob(f"*/{FILE}"))]
        if not times or any(map(_is_active, times)):
            continue
        yield from leftover(WORK, folder.parent, [path for path in sorted(folder.glob("*/*.work")) if path.is_dir()])
        yield from leftover(STORE, folder.parent, _unused(folder, needs))


def _is_active(pipeline: PipelineDir) -> bool:
    try:
        with only_one(pipeline):
            return any(state in ACTIVE for state in job_states(pipeline).values())
    except HpctrainError:  # another process goes through it, or the platform does not answer
        return True


def _unused(store: Path, needs: Needs) -> list[Path]:
    unused = []
    for stage in sorted(path for path in store.iterdir() if path.is_dir()):
        results = [path for path in stage.iterdir() if (path / RESULT).is_file() and not path.name.endswith(".work")]
        newest = max(results, key=lambda path: os.stat(path / RESULT).st_mtime, default=None)
        unused += [path for path in sorted(results) if path != newest and not needs.mentions(path.name, path)]
    return unused


def remove_of_pipeline(found: Leftover) -> str | None:
    """Remove what :func:`leftovers_of_pipelines` has found, while no other process goes through the pipeline.

    Returns
    -------
    str or None
        Why it was not removed; None if it was.

    Raises
    ------
    SiteError
        It cannot be removed.
    """
    times = [PipelineDir(path.parent) for path in sorted(found.owner.glob(f"*/{FILE}"))]
    if any(map(_is_active, times)):
        return "is active now"
    try:
        with only_one(times[-1]):
            for path in found.paths:
                remove_path(path)
    except CheckpointError as error:
        return str(error)
    note("clean", times[-1].path, what=found.kind, bytes=found.size, paths=len(found.paths))
    return None
