"""What can go: parts of runs that nobody needs, how many bytes they free, and their removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpctrain.checkpoint.retention import take_away
from hpctrain.checkpoint.whole import REJECTED, list_checkpoints, verify
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.launch.queue import Queue
from hpctrain.launch.status import RunStatus, describe_any
from hpctrain.profile.reading import read_plain
from hpctrain.records import is_count
from hpctrain.registry.delete import delete_run
from hpctrain.registry.folder import Registry
from hpctrain.registry.needed import Needs
from hpctrain.rundir import RunDir, read_json
from hpctrain.states import FAILED, FINISHED, UNREADABLE
from hpctrain.trail.note import note

CHECKPOINTS, REJECTED_ONES, SUPERSEDED = "checkpoints", "rejected", "superseded"
TENSORBOARD, FIGURES, FAILED_RUNS = "tensorboard", "figures", "failed"
MEANINGS = {
    CHECKPOINTS: "of finished runs, those but the newest, the best and those of keep_every_steps",
    REJECTED_ONES: "damaged and half-written checkpoints",
    SUPERSEDED: "records of steps that a later attempt computed again",
    TENSORBOARD: "event files of ended runs; metrics.jsonl keeps the numbers, not the histograms",
    FIGURES: "pictures that MLflow and W&B have received",
    FAILED_RUNS: "whole directories of runs that failed",
}
"""Every kind of leftover of a run."""
OF_RUNS_BY_DEFAULT = (CHECKPOINTS, REJECTED_ONES, SUPERSEDED)


@dataclass(frozen=True)
class Leftover:
    """Something that can go.

    Parameters
    ----------
    kind : str
        Such as ``checkpoints``.
    owner : Path
        The run or the pipeline that it belongs to, or the folder of a cache.
    paths : tuple of Path
        Files and folders.
    size : int
        What they free [byte].
    """

    kind: str
    owner: Path
    paths: tuple[Path, ...]
    size: int


@dataclass(frozen=True)
class Kept:
    """A run of which nothing, or not everything, may go; and why."""

    run: Path
    why: str


def leftover(kind: str, owner: Path, paths: Sequence[Path]) -> Iterator[Leftover]:
    """Yield what can go as one leftover, if there is something."""
    if paths:
        yield Leftover(kind, owner, tuple(paths), sum(map(size_of, paths)))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; do not follow links."""
    if path.is_symlink() or not path.is_dir():
        return _file_size(path)
    return sum(_file_size(Path(root, name)) for root, _, names in os.walk(path) for name in names)


def _file_size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # removed meanwhile
        return 0


def leftovers_of(run: RunDir, needs: Needs, queue: Queue) -> tuple[list[Leftover], Kept | None]:
    """Return what can go from a run, and why other parts of it stay; None if nothing forbids anything.

    Parameters
    ----------
    run : RunDir
    needs : Needs
    queue : Queue
    """
    status = describe_any(run, queue)
    if why := _untouchable(run, status, needs):
        return [], Kept(run.path, why)
    user = needs.user_of(run)
    kept = None if user is None else Kept(run.path, f"checkpoints stay: {user} names the run")
    if status.state == FAILED and user is None:
        return list(leftover(FAILED_RUNS, run.path, [run.path])), None
    found = [*leftover(REJECTED_ONES, run.path, _damaged(run))]
    found += leftover(SUPERSEDED, run.path, _there(run.superseded_metrics))
    if status.state == FINISHED:
        found += leftover(TENSORBOARD, run.path, _there(run.tensorboard))
        found += leftover(FIGURES, run.path, _there(run.figures))
        if user is None:
            found += leftover(CHECKPOINTS, run.path, _older(run))
    return found, kept


def _untouchable(run: RunDir, status: RunStatus, needs: Needs) -> str | None:
    if status.is_active:
        return f"is {status.state} (according to {status.source})"
    if status.state == UNREADABLE:
        return "cannot be read"
    if status.silent:
        return f"may be active: {status.silent[0]}"
    if (version := needs.version_of(run)) is not None:
        return f"{version} of the registry was made from it"
    for folder in list(run.path.parents)[:2]:  # of a trial, a fold, a stage
        for name, word in (("study.yaml", "study"), ("pipeline.yaml", "pipeline")):
            if (folder / name).is_file():
                return f"belongs to the {word} {folder}"
    return None


def _there(path: Path) -> list[Path]:
    return [path] if os.path.lexists(path) else []


def _damaged(run: RunDir) -> list[Path]:
    patterns = (f"{REJECTED}step-*", ".step-*")
    return sorted(path for pattern in patterns for path in run.checkpoints.glob(pattern) if not path.is_symlink())


def _older(run: RunDir) -> list[Path]:
    """Return the checkpoints but the newest, the best, and those that the profile keeps for good."""
    checkpoints = list_checkpoints(run)
    if len(checkpoints) < 2:
        return []
    state = read_json(checkpoints[0][1] / "state.json", {})
    progress = state.get("progress") if isinstance(state, dict) else None
    card = read_json(run.model / "model.json", {})
    if not isinstance(progress, dict) or not isinstance(card, dict):
        return []
    kept = {value for value in (progress.get("best_step"), card.get("weights_step")) if is_count(value)}
    others = [(step, path) for step, path in checkpoints[1:] if step not in kept]
    if not others:
        return []
    try:
        section = read_plain(run.profile).data.get("checkpoint") or {}
        every = section.get("keep_every_steps")
    except (HpctrainError, AttributeError):
        return []  # nobody knows what its owner wants to keep
    if not (every is None or is_count(every)):
        return []
    return [path for step, path in others if not (every and step % every == 0)]


def remove(found: Leftover, needs: Needs, registry: Registry) -> str | None:
    """Remove one leftover of a run and record it in the audit trail.

    The run may have been resumed since the question was asked, so its state is read again first.

    Returns
    -------
    str or None
        Why it was not removed; None if it was.

    Raises
    ------
    SiteError
        It cannot be removed, or the policy of the registry does not allow it.
    """
    run = RunDir(found.owner)
    if why := _untouchable(run, describe_any(run, Queue()), needs):
        return why
    if found.kind == FAILED_RUNS:
        delete_run(run, registry)
        return None
    if found.kind == CHECKPOINTS and (fault := verify(list_checkpoints(run)[0][1])) is not None:
        return f"its newest checkpoint is damaged ({fault})"
    for path in found.paths:
        if found.kind == CHECKPOINTS:
            take_away(path)
        else:
            remove_path(path)
    note("clean", run.path, what=found.kind, bytes=found.size, paths=len(found.paths))
    return None


def remove_path(path: Path) -> None:
    """Remove a file or a folder.

    Raises
    ------
    SiteError
        It cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SiteError(f"{error.filename or path}: cannot be removed: {error.strerror}") from error
