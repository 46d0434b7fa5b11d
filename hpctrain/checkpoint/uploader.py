"""Copy checkpoints to a mirror while training continues; a network that fails costs the mirror, never the run.

One thread, and at most one upload at a time: while it runs, newer checkpoints replace each other in the queue, because
only the newest is worth the bandwidth.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from hpctrain.checkpoint.mirror import Mirror, describe
from hpctrain.checkpoint.whole import checkpoint_path, list_checkpoints, refuse_if_replaced
from hpctrain.errors import CheckpointError
from hpctrain.metrics.events import CheckpointMirrored, MirrorFailed
from hpctrain.rundir import RunDir

Outcome = CheckpointMirrored | MirrorFailed


class Uploader:
    """Keeps the mirror of one run in step with its checkpoints; only rank 0 has one.

    Parameters
    ----------
    run : RunDir
    mirror : Mirror
    attempt : int
        Number of this attempt; one that a newer attempt has replaced uploads nothing.
    report : callable
        Is called with an event and its step, from the training thread only.
    """

    def __init__(self, run: RunDir, mirror: Mirror, attempt: int, report: Callable[[Outcome, int], object]) -> None:
        self._run, self._mirror, self._attempt, self._report = run, mirror, attempt, report
        self._known: dict[str, tuple[int, int]] = {}
        self._outcomes: deque[tuple[Outcome, int]] = deque()
        self._wanted: int | None = None
        self._is_last = self._is_closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def offer(self, step: int) -> None:
        """Have the checkpoint of a step uploaded; it replaces one that waits. Reports what became of earlier ones."""
        self._report_outcomes()
        with self._changed:
            self._wanted = step
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._thread.start()

    def finish(self, wait_s: float) -> str | None:
        """Upload what is missing, the records last, and wait for it no longer than `wait_s`.

        The records of the run may be closed: nothing is reported any more.

        Returns
        -------
        str or None
            Why the mirror is not complete.
        """
        if self._thread is None:  # an attempt without a checkpoint has records all the same
            self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._thread.start()
        with self._changed:
            self._is_last = True
            self._changed.notify_all()
            ended = self._changed.wait_for(lambda: self._is_closed, wait_s)
        if not ended:
            return f"{self._mirror.shown}: not complete after {wait_s:.0f} s; the run directory is"
        last = self._outcomes[-1][0] if self._outcomes else None
        return f"{self._mirror.shown}: not complete: {last.error}" if isinstance(last, MirrorFailed) else None

    def _report_outcomes(self) -> None:
        while self._outcomes:
            self._report(*self._outcomes.popleft())

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._is_last)
                step, self._wanted = self._wanted, None
                is_last = self._is_last
            self._upload(step)
            with self._changed:
                if is_last and self._wanted is None:
                    self._is_closed = True
                    self._changed.notify_all()
                    return

    def _upload(self, step: int | None) -> None:
        """Bring the mirror up to date; with None as the step, with the newest checkpoint if it is not there."""
        started_s = time.monotonic()
        size = None
        try:
            refuse_if_replaced(self._run, self._attempt)
            if step is None:
                step = self._missing()
            if step is not None:
                size = self._mirror.push_checkpoint(checkpoint_path(self._run, step))
            self._mirror.push_records(self._run, self._known)
            if step is not None:
                self._mirror.drop_checkpoints(keep={kept for kept, _ in list_checkpoints(self._run)} | {step})
        except CheckpointError:
            return  # a newer attempt owns the run, and its mirror
        except Exception as error:  # each store has errors of its own
            if step is None or checkpoint_path(self._run, step).exists():  # else retention has removed it: newer follow
                self._outcomes.append((MirrorFailed(error=describe(error)), step or 0))
            return
        if step is not None:
            seconds = round(time.monotonic() - started_s, 3)
            self._outcomes.append((CheckpointMirrored(path=self._mirror.shown, seconds=seconds, bytes=size), step))

    def _missing(self) -> int | None:
        """Return the newest step, if its checkpoint did not get through in this attempt or in an earlier one."""
        newest = next((step for step, _ in list_checkpoints(self._run)), None)
        return None if newest is None or newest in self._mirror.steps() else newest
