"""The training loop: steps, and between them records, evaluations, checkpoints and the agreed stop."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.distributed.group import broadcast_number
from hpctrain.metrics.events import BadValues, Best, EarlyStopped, EvaluationEmpty, FirstStep, StopRequested
from hpctrain.metrics.histogram import histograms_of
from hpctrain.monitor.memory import used_memory_gib
from hpctrain.rundir import write_arrays
from hpctrain.samples.device import on_device
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.probe import choose_sample
from hpctrain.train.counts import BadValueTally, bad_fields, num_bad
from hpctrain.train.culprits import (
    own_micro_batches,
    raise_bad_values,
    raise_diverged,
    raise_empty_batch,
    rows_of,
    rows_of_step,
    why_without_weight,
)
from hpctrain.train.evaluate import evaluate, sketch
from hpctrain.train.scaling import SMALLEST_SCALE
from hpctrain.train.state import capture
from hpctrain.train.trace import tracer_of
from hpctrain.train.waiting import TimedBatches

if TYPE_CHECKING:
    from hpctrain.train.run import Run
    from hpctrain.train.startup import Startup
    from hpctrain.train.step import StepResult


_ORDER_BLOCK = 4096
"""Number of samples whose place in the order is computed at a time."""


class Outcome(enum.Enum):
    """How an attempt ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    TOO_HOT = "too hot"
    HOPELESS = "hopeless"


def train(run: Run, startup: Startup) -> Outcome:
    """Train from the run's step to its last one, or to the step at which all ranks agree to stop.

    Parameters
    ----------
    run : Run
    startup : Startup
        Its last lap is the first step, which is recorded as the event ``first_step``.

    Returns
    -------
    Outcome
        Unless it is FINISHED, the state is saved and the run can resume from it.
    """
    batches, tracer = TimedBatches(read_batches(run)), tracer_of(run)
    update = run.update if tracer is None else tracer.update
    if run.update.peers is not None:
        run.update.peers.data_waited_s = lambda: batches.waited_s
    boundary = Boundary(run, lambda: batches.waited_s)
    outcome = boundary.catch_up()
    with contextlib.closing(batches):
        while outcome is None:
            result = update(run.progress.step, batches)
            run.progress.step = result.step
            if "first_step" not in startup.seconds:
                startup.lap("first_step")
                if run.metrics is not None:
                    run.metrics.event(FirstStep(seconds=startup.total_s, of=startup.seconds), result.step)
            outcome = boundary.pass_through(result)
            if tracer is not None:
                boundary.leave_out(tracer.after(outcome is None))
    boundary.sum_up()
    if run.checkpoints is not None:
        run.checkpoints.finish()
    return outcome


def read_batches(run: Run) -> Iterator:
    """Read this rank's micro-batches from the run's step on; their rows depend only on the step.

    A model that learns in rounds reads the samples itself, so there are none.
    """
    if not run.learns_by_gradient:
        return (batch for batch in ())
    schedule, world = run.schedule, run.world
    mine = own_micro_batches(run)
    # The order of a block of steps is computed at once: many small numpy calls cost more than the arithmetic.
    stride = max(1, _ORDER_BLOCK // (schedule.accumulation(world.world_size) * schedule.micro_batch))

    def requests() -> Iterator[np.ndarray]:
        for first in range(run.progress.step, schedule.total_steps, stride):
            steps = range(first, min(first + stride, schedule.total_steps))
            yield from rows_of(run, steps, mine)

    data = run.profile.data
    is_gpu = run.device.type == "cuda"
    batches = read_ahead(run.data.samples, requests(), run.profile.reader_threads, data.prefetch_batches, pin=is_gpu)
    return on_device(batches, run.device)


class Boundary:
    """Handle records, evaluations, checkpoints and stops between two steps.

    On a GPU the numbers of a step are read one step later, when they have long arrived. So the loop waits for the
    device only before a save or an evaluation. All ranks read the same sums at the same boundaries, so all of them
    decide the same.

    Parameters
    ----------
    run : Run
    waited_s : callable
        Returns how long the loop has waited for its batches so far [s].
    """

    def __init__(self, run: Run, waited_s: Callable[[], float] = lambda: 0.0) -> None:
        self._run, self._waited_s = run, waited_s
        self._pending: StepResult | None = None
        self._stop: Outcome | None = None
        self._hot = False
        self._bad = BadValueTally(run.kind)
        self._clock_s = time.perf_counter()
        self._clock_step = run.progress.step
        self._clock_waited_s = 0.0

    def catch_up(self) -> Outcome | None:
        """Run an evaluation that is due at the step the run begins with; return an outcome if the run is finished.

        On a machine that is still too hot the run pauses, or exits without a step.
        """
        self._wait_until_cool()
        if self._stop is None and self._is_evaluation_missing() and self._evaluate():
            self._save(wait=False)
        return self._finished() or self._stop

    def _is_evaluation_missing(self) -> bool:
        """Return whether a stop came before the evaluation of this step, or it is step 0 of a run with a start."""
        run = self._run
        step = run.progress.step
        if run.progress.evaluated_step >= step:
            return False
        if step == 0:
            return run.family.has_start(run.data.section) and run.profile.train.init_from is None
        return run.schedule.evaluation_due(step)

    def pass_through(self, result: StepResult) -> Outcome | None:
        """Handle the boundary after a step; return an outcome when training is over."""
        run, step = self._run, result.step
        run.heartbeat.step = step
        run.watchdog.progress()
        previous, self._pending = self._pending, result
        if previous is not None:
            self._read(previous)
        save = run.schedule.checkpoint_due(step)
        if save or run.schedule.evaluation_due(step) or result.arrived is None:
            self._settle()
        if self._hot and self._stop is None:
            self._wait_until_cool()
        run.pacer.release_memory()
        if self._stop is None and run.schedule.evaluation_due(step):
            save |= self._evaluate()
        outcome = self._stop or self._finished()
        if outcome is not None:
            self._settle()
        if save or outcome is not None:
            self._save(wait=outcome is not None)
        self._histograms(step)
        return outcome

    def _finished(self) -> Outcome | None:
        run = self._run
        done = run.progress.step >= run.schedule.total_steps or run.progress.stopped_early
        return Outcome.FINISHED if done else None

    def _settle(self) -> None:
        """Read the numbers of the last step now, even if that means waiting for them."""
        if self._pending is not None:
            result, self._pending = self._pending, None
            self._read(result)

    def _read(self, result: StepResult) -> None:
        run = self._run
        self._look_for_bad_values(result)
        is_full = result.step * run.schedule.global_batch <= run.schedule.num_samples
        if result.is_empty and is_full:
            raise_empty_batch(run, result.step)
        loss_is_finite = np.isfinite(result.sums["loss_sum"])
        if not loss_is_finite or (
            result.skipped
            and not result.is_empty
            and (not run.loss_scale.enabled or result.loss_scale < SMALLEST_SCALE)
        ):
            raise_diverged(run, result)
        self._hot = result.hot
        self._note_stop(result.stop, result.interrupted, result.critical)
        if run.metrics is not None and run.schedule.record_due(result.step):
            self._log(result)

    def _note_stop(self, stop: bool, interrupted: bool, critical: bool) -> None:
        run = self._run
        if stop and self._stop is None:
            why = Outcome.TOO_HOT if critical else Outcome.STOPPED
            self._stop = Outcome.INTERRUPTED if interrupted else why
            if run.metrics is not None:
                run.metrics.event(StopRequested(cause=run.stop.cause or "another rank"), run.progress.step)

    def _wait_until_cool(self) -> None:
        """Pause all ranks while one of them is hot; a stop request ends the pause and the run."""
        self._settle()
        self._hot = False
        self._leave_out_next()
        self._note_stop(*self._run.pacer.wait_until_cool())

    def _look_for_bad_values(self, result: StepResult) -> None:
        run, schedule = self._run, self._run.schedule
        if num_bad(run.kind, result.sums) and run.profile.data.refuses_bad_values:
            raise_bad_values(run, f"step {result.step}", rows_of_step(run, result.step - 1))
        num_samples = schedule.samples_seen(result.step) - schedule.samples_seen(result.step - 1)
        if self._bad.add(result.sums, num_samples) and run.metrics is not None:
            run.metrics.event(BadValues(counts=self._bad.fields()), result.step)

    def sum_up(self) -> None:
        """Record at the end how many bad values and fully masked samples this attempt has read."""
        if self._run.metrics is not None and (fields := self._bad.fields()):
            self._run.metrics.event(BadValues(counts=fields), self._run.progress.step)

    def _log(self, result: StepResult) -> None:
        run, schedule = self._run, self._run.schedule
        now_s = time.perf_counter()
        passed_s = max(now_s - self._clock_s, 1e-9)
        samples = schedule.samples_seen(result.step) - schedule.samples_seen(self._clock_step)
        learned = {} if result.is_empty else run.model.metrics(result.sums)
        if run.learns_by_gradient:
            learned |= {} if result.is_empty else {"grad_norm": result.gradient_norm}
            learned["lr"] = schedule.learning_rate(result.step - 1)
            learned["data_wait_share"] = min(1.0, (self._waited_s() - self._clock_waited_s) / passed_s)
            learned |= {} if result.waits is None else result.waits.fields()
        fields = {
            **learned,
            "samples_seen": schedule.samples_seen(result.step),
            "samples_per_s": samples / passed_s,
            "epoch": schedule.samples_seen(result.step) / schedule.num_train,
            "memory_gib": used_memory_gib(run.device),
        }
        num_rejected = schedule.samples_seen(result.step) - schedule.samples_seen(result.step - 1)
        num_rejected -= round(result.sums.get("num_samples", num_rejected))
        if num_rejected:  # samples of this step that carry no weight
            fields["num_rejected"] = num_rejected
        fields |= bad_fields(run.kind, result.sums)
        if run.loss_scale.enabled:
            fields |= {"loss_scale": result.loss_scale, "skipped": result.skipped}
        run.metrics.train(result.step, **fields)
        self._clock_s, self._clock_step, self._clock_waited_s = now_s, result.step, self._waited_s()

    def leave_out(self, seconds: float) -> None:
        """Do not count this time as time of steps."""
        if seconds:
            self._clock_s += seconds
            self._leave_out_next()

    def _leave_out_next(self) -> None:
        """Let the next step not count as time that ranks wait for each other: rank 0 has had more to do."""
        if self._run.update.peers is not None:
            self._run.update.peers.leave_out_next()

    def _evaluate(self) -> bool:
        """Evaluate; return whether the result is the best so far, so that its checkpoint must be kept."""
        run, progress = self._run, self._run.progress
        self._leave_out_next()
        paused_s = time.perf_counter()
        progress.evaluated_step = progress.step
        if len(run.data.validation_rows) == 0:
            return False
        found = evaluate(run)
        if found is None:
            self._note_no_evaluation()
            self._clock_s += time.perf_counter() - paused_s
            return False
        limit = run.profile.train.early_stopping
        objective = run.family.objective
        value = found[objective.metric]
        better = objective.is_better(value, progress.best_value, limit.min_delta if limit else 0.0)
        progress.evaluations_without_progress = 0 if better else progress.evaluations_without_progress + 1
        if better:
            progress.best_value, progress.best_step = value, progress.step
        progress.stopped_early = limit is not None and progress.evaluations_without_progress >= limit.patience
        if run.metrics is not None:
            run.metrics.evaluation(progress.step, **found)
            if better:
                run.metrics.event(Best(value={objective.metric: value}), progress.step)
            if progress.stopped_early:
                run.metrics.event(EarlyStopped(best_step=progress.best_step), progress.step)
            self._figures()
        if run.is_trial:
            self._hear_referee(found)
        self._clock_s += time.perf_counter() - paused_s  # the throughput counts training alone
        return better and run.profile.checkpoint.keep_best

    def _hear_referee(self, found: dict[str, Any]) -> None:
        """Let rank 0 ask whether the run should go on; all ranks follow the answer."""
        run = self._run
        verdict = run.referee is not None and run.referee(run.progress.step, found)
        if broadcast_number(run.world, int(verdict)) and self._stop is None and self._finished() is None:
            self._stop = Outcome.HOPELESS
            run.stop.cause = "pruned"

    def _note_no_evaluation(self) -> None:
        """Record that no held-out sample has weight; this does not count as an evaluation, and never as the best."""
        run = self._run
        if run.metrics is not None:
            rows = run.data.validation_rows
            counts = {run.kind.words.count_field: len(rows)}
            reasons = why_without_weight(run, choose_sample(rows))
            run.metrics.event(EvaluationEmpty(counts=counts, reasons=reasons), run.progress.step)

    def _figures(self) -> None:
        run = self._run
        if not run.schedule.figure_due(run.progress.step):
            return
        arrays = sketch(run, run.data.validation_rows[: run.profile.track.num_figures])
        if arrays is not None:
            write_arrays(run.directory.results / f"{run.family.sketch_name}.npz", arrays)
            run.metrics.figures(run.progress.step, lambda: run.family.figures(arrays))

    def _histograms(self, step: int) -> None:
        run, every = self._run, self._run.profile.track.histogram_every_steps
        if not run.learns_by_gradient or every is None or step % every != 0:
            return
        self._leave_out_next()
        if run.metrics is not None:
            run.metrics.histograms(step, lambda: histograms_of(run.model.named_parameters()))

    def _save(self, wait: bool) -> None:
        run = self._run
        self._leave_out_next()
        if run.checkpoints is None:
            return
        run.stop.saving = True
        tensors, state = capture(run)
        best = run.progress.best_step if run.profile.checkpoint.keep_best else None
        run.checkpoints.save(run.progress.step, tensors, state, best, wait)
        run.stop.saving = False
        run.watchdog.progress()
