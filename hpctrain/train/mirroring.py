"""The mirror of a run (``checkpoint.mirror``), as rank 0 uses it: upload while training, fetch what was lost before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpctrain.checkpoint.mirror import Mirror, describe
from hpctrain.checkpoint.uploader import Uploader
from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.metrics.events import CheckpointSaved, Event
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.train.run import Rank, Run


def open_uploader(rank: Rank, profile: Profile) -> Uploader | None:
    """Return what uploads the checkpoints of this run; None without a mirror, and on all ranks but the first.

    Raises
    ------
    CheckpointError
        A package is missing, or the address is wrong.
    """
    if rank.metrics is None or profile.checkpoint.mirror is None:
        return None
    mirror = Mirror.of(rank.directory, profile.checkpoint.mirror)
    return Uploader(rank.directory, mirror, rank.attempt, rank.metrics.event)


def offering(report: Callable[[Event, int], object], uploader: Uploader | None) -> Callable[[Event, int], object]:
    """Return a `report` that also offers each saved checkpoint to the uploader."""
    if uploader is None:
        return report

    def report_and_offer(event: Event, step: int) -> None:
        report(event, step)
        if isinstance(event, CheckpointSaved):
            uploader.offer(step)

    return report_and_offer


def fetch_lost_checkpoints(run: Run) -> None:
    """Bring the newest whole checkpoint from the mirror if it is newer than those in the run directory.

    A file system may have been purged. The records of such a run are older than the checkpoint only if it is not the
    run's own directory; ``hpctrain pull`` brings both.
    """
    if run.uploader is None or run.profile.checkpoint.mirror is None:
        return
    newest = max((step for step, _ in list_checkpoints(run.directory)), default=-1)
    furthest = max((record["step"] for record in run.directory.read_metrics("train")), default=-1)
    mirror = Mirror.of(run.directory, run.profile.checkpoint.mirror)
    try:
        if not any(newest < step <= furthest for step in mirror.steps()):
            return
        step, rejected = mirror.pull_checkpoint(run.directory, newer_than=newest)
    except Exception as error:  # each store has errors of its own
        _say(f"{mirror.shown}: cannot be read, this attempt goes on without it: {describe(error)}")
        return
    for item in rejected:
        _say(f"skipped {item.path}: {item.reason}")
    if step is not None:
        _say(f"fetched the checkpoint of step {step} from {mirror.shown}")


def finish_mirror(run: Run) -> None:
    """Wait for the mirror at the end of an attempt, once all records are written."""
    if run.uploader is not None and (why_not := run.uploader.finish(run.profile.checkpoint.mirror_wait_s)):
        _say(why_not)


def _say(text: str) -> None:
    print(printable(f"hpctrain: {text}"), file=sys.stderr, flush=True)
