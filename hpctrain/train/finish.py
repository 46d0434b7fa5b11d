"""After the last step, on rank 0 alone: write the model, check it, and describe the held-out samples with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.checkpoint.retention import make_room
from hpctrain.checkpoint.tensorfile import read_tensors
from hpctrain.checkpoint.whole import checkpoint_path, refuse_if_replaced, verify
from hpctrain.errors import CheckpointError
from hpctrain.families.held_out import HeldOut, NoResultsError
from hpctrain.families.store import WEIGHTS, card_entries, load_model, save_model
from hpctrain.fulldisk import is_disk_full
from hpctrain.metrics.events import CheckpointRejected, MadeRoom
from hpctrain.rundir import file_digest, note_test_look
from hpctrain.train.evaluate import evaluated_weights, predictions

if TYPE_CHECKING:
    from hpctrain.train.run import Run


def finish(run: Run) -> dict[str, Any]:
    """Write the finished model and its results, and return the fields of the event ``finished``.

    On a full disk it removes older checkpoints to make room, but never the newest whole one or the best one.

    Raises
    ------
    CheckpointError
        The model or its results cannot be written, or the written model computes other results than the one in memory.
    """
    while True:
        try:
            return _finish(run)
        except Exception as error:
            if is_disk_full(error) and _made_room(run):
                continue
            if isinstance(error, OSError) or is_disk_full(error):
                raise CheckpointError(
                    f"{run.directory.path}: the finished model and its results could not be written: {error}\n"
                    f"  the checkpoint of step {run.progress.step} is untouched; free some room, then start the run "
                    "again: it only has to write them"
                ) from error
            raise


def _made_room(run: Run) -> bool:
    """Remove one older checkpoint; return whether there was one that could be removed."""
    section = run.profile.checkpoint
    removed = make_room(
        run.directory, section.keep_last, section.keep_every_steps, run.progress.best_step, keep_best=True
    )
    if removed is not None:
        run.metrics.event(MadeRoom(made_room=[removed.name]), run.progress.step)
    return removed is not None


def _finish(run: Run) -> dict[str, Any]:
    refuse_if_replaced(run.directory, run.attempt)
    weights_step = _use_best(run)
    path = run.directory.model
    extra = {
        **card_entries(run.profile),
        "step": run.progress.step,
        "weights_step": weights_step,
        "best_step": run.progress.best_step,
        f"validation_{run.family.objective.metric}": run.progress.best_value,
        "moving_average": run.averaged is not None,
    }
    with evaluated_weights(run) as model:
        run.family.complete(model, _held_out(run, run.data.validation_rows))
        extra |= run.family.learned_entries(model)
        save_model(path, model, run.data.section, run.data.facts, extra)
    difference = _check(run)
    if len(run.data.described_rows):
        _describe_held_out(run)
    return {
        "sha256": file_digest(path / WEIGHTS),
        "check_max_difference": difference,
        "best_step": run.progress.best_step,
    }


def _held_out(run: Run, rows: np.ndarray) -> HeldOut:
    return HeldOut(
        samples=run.data.samples,
        rows=rows,
        prepare=run.prepare,
        batch_size=run.schedule.micro_batch,
        device=run.device,
        tick=lambda done: run.watchdog.progress(),
    )


def _use_best(run: Run) -> int:
    """Load the weights of the best checkpoint if training was stopped early; otherwise keep the last weights.

    Returns
    -------
    int
        Step of the weights that the model has.
    """
    best = run.progress.best_step
    if not run.progress.stopped_early or not run.profile.checkpoint.keep_best or best is None:
        return run.progress.step
    folder = checkpoint_path(run.directory, best)
    if (reason := verify(folder)) is not None:  # the disk was full at that step, or lost the checkpoint since then
        run.metrics.event(CheckpointRejected(path=str(folder), reason=reason), best)
        print(
            f"hpctrain: the best checkpoint cannot be used ({reason}); the model has the last weights", file=sys.stderr
        )
        return run.progress.step
    if run.averaged is not None:
        for name, value in read_tensors(folder / "ema.safetensors").items():
            run.averaged[name].copy_(value)
    weights = read_tensors(folder / WEIGHTS)
    if run.learns_by_gradient:
        run.model.load_state_dict(weights)
    else:
        run.model.load({name: tensor.numpy() for name, tensor in weights.items()})
    return best


def _check(run: Run) -> float:
    """Read the model back as a user would, predict some samples with it, and return the largest relative difference."""
    rows = run.data.validation_rows if len(run.data.validation_rows) else run.data.train_rows
    rows = rows[: min(len(rows), run.schedule.micro_batch)]
    with evaluated_weights(run) as model:
        here = predictions(run, model, rows)
    there = predictions(run, load_model(run.directory.model, run.device)[0], rows)
    difference = max((_relative_difference(here[name], there[name]) for name in here), default=0.0)
    if not difference <= 1e-4:  # also true for NaN
        raise CheckpointError(
            f"{run.directory.model}: the model read back differs from the trained one by {difference:.3g} of its "
            "largest value; the file system may have lost data. Start the run again: it only repeats this check"
        )
    return difference


def _relative_difference(here: np.ndarray, there: np.ndarray) -> float:
    """Return the largest difference in units of the largest absolute value; 0 where both are NaN."""
    here, there = here.astype(np.float64), there.astype(np.float64)
    both_nan = np.isnan(here) & np.isnan(there)
    apart = np.abs(np.where(both_nan, 0.0, here - there))
    scale = np.nanmax(np.abs(here), initial=0.0)
    return float(apart.max(initial=0.0)) / (scale or 1.0)


def _describe_held_out(run: Run) -> None:
    """Write what the finished model says about the held-out samples."""
    run.directory.results.mkdir(exist_ok=True)
    if run.profile.data.split.results == "test":
        note_test_look(run.directory, "training", len(run.data.described_rows))
    model, card = load_model(run.directory.model, run.device)
    try:
        run.family.write_results(model, card, _held_out(run, run.data.described_rows), run.directory.results)
    except NoResultsError as error:  # the model is finished all the same, and the evaluations have reported it
        print(f"hpctrain: held-out {run.kind.words.many}: {error}", file=sys.stderr)
