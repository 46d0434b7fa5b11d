"""Save while training continues: copy the state to host buffers of the writer, return, and write in a thread.

At most one write is in flight. The training loop waits for the copy only. The bytes on disk are those of the step
boundary, whatever the optimizer does meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hpctrain.checkpoint.retention import make_room, prune
from hpctrain.checkpoint.store import write_checkpoint
from hpctrain.checkpoint.whole import refuse_if_replaced
from hpctrain.errors import CheckpointError
from hpctrain.fulldisk import is_disk_full
from hpctrain.metrics.events import CheckpointFailed, CheckpointSaved
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir

Tensors = Mapping[str, Mapping[str, torch.Tensor]]
Saved = CheckpointSaved | CheckpointFailed


class CheckpointWriter:
    """Write the checkpoints of one attempt.

    Parameters
    ----------
    run : RunDir
    section : CheckpointSection
        Retention, and whether to write in a thread.
    attempt : int
        Number of this attempt; an older attempt may not replace its checkpoints.
    report : callable
        Is called with an event and its step, from the training thread only.
    """

    def __init__(
        self, run: RunDir, section: CheckpointSection, attempt: int, report: Callable[[Saved, int], object]
    ) -> None:
        self._run, self._section, self._attempt, self._report = run, section, attempt, report
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}
        self._thread: threading.Thread | None = None
        self._outcome: tuple[Saved, int] | None = None
        self._error: BaseException | None = None

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any], best_step: int | None, wait: bool) -> None:
        """Save the state of a step boundary.

        Parameters
        ----------
        step : int
        tensors : mapping
            Live tensors of the model and the optimizer, on any device.
        state : mapping
            JSON values.
        best_step : int or None
            Step of the best checkpoint, which retention keeps.
        wait : bool
            Whether to return only when the checkpoint is on disk; the last save of an attempt needs that.

        Raises
        ------
        CheckpointError
            A newer attempt owns the run directory, or (with `wait`) the state could not be written.
        """
        started = time.perf_counter()
        self.finish()  # the buffers belong to the write in flight until it ends
        copies = self._copy_to_host(tensors)
        blocked_s = time.perf_counter() - started
        arguments = (step, copies, dict(state), best_step, blocked_s)
        if wait or not self._section.asynchronous:
            self._write(*arguments)
            self._settle(must_be_saved=wait)
        else:
            self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
            self._thread.start()

    def finish(self) -> None:
        """Wait for the write in flight and report its result."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._settle(must_be_saved=False)

    def _copy_to_host(self, tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
        copies: dict[str, dict[str, torch.Tensor]] = {}
        on_gpu = False
        for file, named in tensors.items():
            copies[file] = {}
            for name, tensor in named.items():
                buffer = self._buffers.get((file, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                    self._buffers[file, name] = buffer
                buffer.copy_(tensor.detach(), non_blocking=True)
                on_gpu |= tensor.is_cuda
                copies[file][name] = buffer
        if on_gpu:
            torch.cuda.current_stream().synchronize()
        return copies

    def _write(
        self, step: int, tensors: Tensors, state: dict[str, Any], best_step: int | None, blocked_s: float
    ) -> None:
        started = time.perf_counter()
        retention = (self._section.keep_last, self._section.keep_every_steps, best_step)
        made_room: list[str] = []
        try:
            size = self._write_or_make_room(step, tensors, state, retention, made_room)
            event: Saved = CheckpointSaved(
                path=f"checkpoints/step-{step:08d}",
                retention_error=self._retain(retention),
                seconds=round(time.perf_counter() - started, 4),
                blocked_s=round(blocked_s, 4),
                bytes=size,
                made_room=made_room or None,
            )
            self._outcome = (event, step)
        except OSError as error:  # a full disk costs this checkpoint, never the newest whole one and never the run
            text = f"{type(error).__name__}: {error}"
            if is_disk_full(error):
                text += "; the disk has no room for another checkpoint beside the newest one"
            self._outcome = (CheckpointFailed(error=text, made_room=made_room or None), step)
        except BaseException as error:  # an error of the thread must reach the training loop, whatever it is
            self._error = error

    def _write_or_make_room(
        self,
        step: int,
        tensors: Tensors,
        state: dict[str, Any],
        retention: tuple[int, int | None, int | None],
        made_room: list[str],
    ) -> int:
        """Write the checkpoint and return its size [byte]; on a full disk, remove older ones until it fits.

        The names of the removed checkpoints are added to `made_room`.
        """
        while True:
            try:
                return write_checkpoint(self._run, step, tensors, state, self._attempt)
            except OSError as error:
                if not is_disk_full(error):
                    raise
                refuse_if_replaced(self._run, self._attempt)
                if (removed := make_room(self._run, *retention)) is None:
                    raise
                made_room.append(removed.name)

    def _retain(self, retention: tuple[int, int | None, int | None]) -> str | None:
        """Remove checkpoints that retention no longer keeps; return an error, which does not harm the new one."""
        try:
            refuse_if_replaced(self._run, self._attempt)
            for _ in prune(self._run, *retention):
                pass
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _settle(self, must_be_saved: bool) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._outcome is not None:
            (event, step), self._outcome = self._outcome, None
            self._report(event, step)
            if isinstance(event, CheckpointFailed) and must_be_saved:
                raise CheckpointError(
                    f"{self._run.checkpoints}: step {step} could not be saved: {event.error}\n  the older "
                    "checkpoints are untouched; free some room, then start the run again: it resumes from the newest"
                )
