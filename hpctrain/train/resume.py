"""Continue a run from its newest whole checkpoint, on all ranks from the same bytes."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hpctrain.checkpoint.store import read_checkpoint
from hpctrain.checkpoint.whole import checkpoint_path, clear_leftovers, newest_whole, set_aside, verify
from hpctrain.distributed.group import broadcast_number
from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.errors import CheckpointError
from hpctrain.metrics.events import CheckpointRejected, Resumed
from hpctrain.metrics.record import supersede_after
from hpctrain.train.mirroring import fetch_lost_checkpoints
from hpctrain.train.start import begin_anew
from hpctrain.train.state import restore

if TYPE_CHECKING:
    from hpctrain.train.run import Run


def resume(run: Run) -> None:
    """Load the newest whole checkpoint, which rank 0 chooses for all ranks, and report every rejected one."""
    step, rejected, cleared, stuck = None, [], [], []
    if run.world.is_main:
        cleared, stuck = clear_leftovers(run.directory, run.attempt)
        fetch_lost_checkpoints(run)
        step, rejected = newest_whole(run.directory)
    chosen = broadcast_number(run.world, -1 if step is None else step)
    if chosen >= 0:
        restore(run, *_read_the_same(run, checkpoint_path(run.directory, chosen)))
    else:
        begin_anew(run)
    if run.metrics is None:
        return
    set_aside(rejected)
    run.metrics.close()  # the file is about to be replaced, and events of staging may have opened it
    furthest = supersede_after(run.directory, max(chosen, 0), run.progress.evaluated_step).furthest
    for item in rejected:
        run.metrics.event(CheckpointRejected(path=str(item.path), reason=item.reason), max(chosen, 0))
        print(f"hpctrain: skipped {item.path}: {item.reason}", file=sys.stderr)
    for path in cleared:
        print(f"hpctrain: removed {path}, which an earlier attempt left unfinished", file=sys.stderr)
    for item in stuck:
        print(f"hpctrain: cannot remove the unfinished {item.path}: {item.reason}", file=sys.stderr)
    if chosen >= 0:
        lost = max(0, furthest - chosen)
        run.metrics.event(Resumed(checkpoint=f"checkpoints/step-{chosen:08d}", steps_lost=lost), chosen)


def _read_the_same(run: Run, path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read a checkpoint on every rank; rank 0 has verified it, and the others must read the same bytes.

    Raises
    ------
    CheckpointError
        A rank reads other bytes than rank 0; every rank raises.
    """
    reason = None if run.world.is_main else verify(path)
    wrong = sum_over_ranks(run.world, torch.tensor([float(reason is not None)]))
    if wrong > 0:
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        seen = f"rank {run.world.rank} on {node} finds: {reason}" if reason else "see the message of that rank"
        raise CheckpointError(f"{path}: rank 0 reads a whole checkpoint, but {int(wrong)} other rank(s) do not; {seen}")
    return read_checkpoint(path)
