"""The number of nodes of a run that has fewer than it asked for; each step still sees the same samples."""

from __future__ import annotations

from hpctrain.access import following
from hpctrain.errors import ProfileError
from hpctrain.launch.submit import with_global_batch
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, write_atomic, write_json


def smaller_shapes(run: RunDir, nodes: int, min_nodes: int) -> list[int]:
    """Return the numbers of nodes below `nodes`, largest first, whose ranks can share the global batch of the run."""
    found = []
    for fewer in range(nodes - 1, min_nodes - 1, -1):
        try:
            _with_nodes(run, fewer)
        except ProfileError:
            continue
        found.append(fewer)
    return found


def take_shape(run: RunDir, nodes: int) -> None:
    """Give a run that waits for its next attempt another number of nodes; its global batch stays.

    Raises
    ------
    ProfileError
        The ranks of so many nodes cannot share the global batch.
    """
    if run.read_job().get("num_nodes") == nodes:
        return
    profile = _with_nodes(run, nodes)
    with following(run.path):
        write_atomic(run.profile, dump_profile(profile))
        job = run.read_job()
        write_json(run.job, {**job, "num_nodes": nodes, "world_size": profile.launch.world_size})


def _with_nodes(run: RunDir, nodes: int) -> Profile:
    before = load_profile(run.profile)
    launch = before.launch.model_copy(update={"nodes": nodes})
    return with_global_batch(before.model_copy(update={"launch": launch}), before.global_batch, str(run.profile))
