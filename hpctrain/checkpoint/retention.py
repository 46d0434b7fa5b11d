"""Choose the checkpoints to keep, and those to remove first when the disk is full.

The newest whole checkpoint always stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpctrain.checkpoint.whole import REJECTED, checkpoint_path, list_checkpoints, newest_whole, remove_directory
from hpctrain.rundir import RunDir


def prune(run: RunDir, keep_last: int, keep_every_steps: int | None, best_step: int | None) -> Iterator[Path]:
    """Remove the checkpoints that retention does not keep, oldest first, and yield each.

    Parameters
    ----------
    run : RunDir
    keep_last : int
        Number of the newest checkpoints to keep.
    keep_every_steps : int or None
        Keep every step that is a multiple of this number for ever.
    best_step : int or None
        Keep the checkpoint of this step too.
    """
    for path in [*_rejected(run), *_unwanted(run, keep_last, keep_every_steps, best_step)]:
        take_away(path)
        yield path


def _rejected(run: RunDir) -> list[Path]:
    return sorted(path for path in run.checkpoints.glob(f"{REJECTED}step-*") if path.is_dir() and not path.is_symlink())


def _unwanted(run: RunDir, keep_last: int, keep_every_steps: int | None, best_step: int | None) -> list[Path]:
    """Return the checkpoints that retention does not keep, oldest first."""
    return [
        path
        for step, path in reversed(list_checkpoints(run)[keep_last:])
        if step != best_step and not (keep_every_steps and step % keep_every_steps == 0)
    ]


def take_away(path: Path) -> None:
    """Remove a checkpoint. Hide it first: an interrupted removal must not leave a visible one without its files."""
    hidden = path.with_name(f".{path.name.removeprefix(REJECTED)}.removed")
    remove_directory(hidden)
    os.rename(path, hidden)
    shutil.rmtree(hidden)


def make_room(
    run: RunDir, keep_last: int, keep_every_steps: int | None, best_step: int | None, *, keep_best: bool = False
) -> Path | None:
    """Remove the least useful checkpoint from a full disk.

    Call it again while the disk is still full. The order of removal is: damaged checkpoints, those that retention does
    not keep, the older ones of `keep_last`, those of `keep_every_steps`, and last the best one. Within each group the
    oldest is removed first. The newest whole checkpoint always stays. If all of them together would not make enough
    room for another checkpoint, none is removed.

    Parameters
    ----------
    run : RunDir
    keep_last, keep_every_steps, best_step
        As in :func:`prune`.
    keep_best : bool
        Never remove the best one.

    Returns
    -------
    Path or None
        The checkpoint that was removed; None if none may be removed.

    Raises
    ------
    OSError
        The checkpoint cannot be removed.
    """
    newest, damaged = newest_whole(run)
    if newest is None:
        return None
    unwanted = set(_unwanted(run, keep_last, keep_every_steps, best_step))

    def worth(item: tuple[int, Path]) -> tuple[bool, bool, bool, int]:
        step, path = item
        is_kept_for_good = bool(keep_every_steps) and step % keep_every_steps == 0
        return step == best_step, is_kept_for_good, path not in unwanted, step

    older = [item for item in list_checkpoints(run) if item[0] < newest and not (keep_best and item[0] == best_step)]
    removable = [*_rejected(run), *(item.path for item in damaged), *(path for _, path in sorted(older, key=worth))]
    system = os.statvfs(run.checkpoints)
    room = system.f_bavail * system.f_frsize + sum(map(_size, removable))
    if not removable or room < 0.9 * _size(checkpoint_path(run, newest)):  # their sizes differ by some bytes
        return None
    take_away(removable[0])
    return removable[0]


def _size(path: Path) -> int:
    """Return the total size of the files of a directory [byte]."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else 0
