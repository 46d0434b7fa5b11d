"""What can go from this machine: copies of data that no process reads, and the cache of memory estimates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpctrain.errors import HpctrainError
from hpctrain.files import read_text
from hpctrain.profile.load import load_profile
from hpctrain.profile.memory import cache_folder
from hpctrain.registry.leftovers import Leftover, leftover, remove_path
from hpctrain.rundir import RunDir
from hpctrain.samples.place import is_unused, remove_unused

STAGED, CACHE = "staged", "cache"
MEANINGS = {
    STAGED: "copies of data files on this machine's disk (data.stage) that no process reads",
    CACHE: "estimates of memory, which hpctrain check makes again",
}
"""Every kind of leftover of a machine."""


def leftovers_here(runs: Iterable[RunDir]) -> Iterator[Leftover]:
    """Yield what can go from this machine: staged copies where the profiles of `runs` put them, and caches."""
    for folder in sorted({folder for run in runs if (folder := _stage_of(run)) is not None}):
        ours = folder / f"hpctrain-{os.getuid()}"
        if ours.is_dir() and not ours.is_symlink() and ours.stat().st_uid == os.getuid():
            yield from leftover(STAGED, ours, [path for path in sorted(ours.iterdir()) if is_unused(path)])
    cache = cache_folder()
    if cache.is_dir():
        yield from leftover(CACHE, cache, sorted(cache.glob("*.json")))


def _stage_of(run: RunDir) -> Path | None:
    try:
        text = read_text(run.profile)
        # A profile is written as a whole, with `stage: null`. Thousands of runs stage nothing: no need to parse them.
        if "stage" not in text.replace("stage: null", "") and "extends" not in text:
            return None
        stage = load_profile(run.profile).data.stage
    except (HpctrainError, OSError):
        return None
    return None if stage is None else Path(stage).expanduser()


def remove_here(found: Leftover) -> None:
    """Remove what :func:`leftovers_here` has found; a copy that a process has taken meanwhile stays.

    Raises
    ------
    SiteError
        A file of the cache cannot be removed.
    """
    for path in found.paths:
        if found.kind == STAGED:
            remove_unused(path)
        else:
            remove_path(path)
