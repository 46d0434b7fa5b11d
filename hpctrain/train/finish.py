"""After the last step, on rank 0 alone: write the model, check it, and describe the held-out spectra with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from hpctrain.checkpoint.retention import make_room
from hpctrain.checkpoint.store import checkpoint_path, refuse_if_replaced, verify
from hpctrain.checkpoint.tensorfile import read_tensors
from hpctrain.errors import CheckpointError
from hpctrain.families.spectral_vae.catalogue import survey_columns
from hpctrain.families.spectral_vae.encode import NothingEncodedError, encode_to_file
from hpctrain.families.store import WEIGHTS, load_model, save_model
from hpctrain.fulldisk import is_disk_full
from hpctrain.rundir import file_digest
from hpctrain.train.build import card_entries
from hpctrain.train.evaluate import evaluated_weights, reconstructions, write_arrays

if TYPE_CHECKING:
    from hpctrain.train.build import Run

NUM_ANOMALIES = 6
"""Number of the most anomalous spectra whose reconstructions go into the report."""


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
        run.metrics.event("made_room", run.progress.step, made_room=[removed.name])
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
        "validation_loss": run.progress.best_loss,
        "moving_average": run.averaged is not None,
    }
    with evaluated_weights(run) as model:
        save_model(path, model, run.spectra.section, run.spectra.facts, extra)
    difference = _check(run)
    if len(run.spectra.validation_rows):
        _describe_held_out(run)
    return {
        "sha256": file_digest(path / WEIGHTS),
        "check_max_difference": difference,
        "best_step": run.progress.best_step,
    }


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
        run.metrics.event("checkpoint_rejected", best, path=str(folder), reason=reason)
        print(
            f"hpctrain: the best checkpoint cannot be used ({reason}); the model has the last weights", file=sys.stderr
        )
        return run.progress.step
    if run.averaged is not None:
        for name, value in read_tensors(folder / "ema.safetensors").items():
            run.averaged[name].copy_(value)
    run.model.load_state_dict(read_tensors(folder / WEIGHTS))
    return best


@torch.no_grad()
def _check(run: Run) -> float:
    """Read the model back as a user would, reconstruct some spectra with it, and return the largest difference."""
    rows = run.spectra.validation_rows if len(run.spectra.validation_rows) else run.spectra.train_rows
    rows = rows[: min(len(rows), run.schedule.micro_batch)]
    here = reconstructions(run, rows)["reconstruction"]
    live = run.model
    run.model = load_model(run.directory.model, run.device)[0]
    averaged, run.averaged = run.averaged, None
    try:
        there = reconstructions(run, rows)["reconstruction"]
    finally:
        run.model, run.averaged = live, averaged
    scale = float(np.abs(here).max()) or 1.0
    difference = float(np.abs(here - there).max()) / scale
    if not difference <= 1e-4:  # also true for NaN
        raise CheckpointError(
            f"{run.directory.model}: the model read back differs from the trained one by {difference:.3g} of its "
            "largest value; the file system may have lost data. Start the run again: it only repeats this check"
        )
    return difference


def _describe_held_out(run: Run) -> None:
    """Encode the held-out spectra, and save the reconstructions of the most anomalous ones."""
    path = run.directory.results / "latents.h5"
    run.directory.results.mkdir(exist_ok=True)
    model, card = load_model(run.directory.model, run.device)
    rows = run.spectra.validation_rows
    try:
        encode_to_file(
            model,
            card,
            run.spectra.source,
            rows,
            path,
            batch_size=run.schedule.micro_batch,
            device=run.device,
            on_batch=lambda done: run.watchdog.progress(),
        )
    except NothingEncodedError as error:  # the model is finished all the same, and the evaluations have reported it
        print(f"hpctrain: held-out spectra: {error}", file=sys.stderr)
        return
    with h5py.File(path, "r") as file:
        score = file["ANOMALY_SCORE"][:]
        usable = np.flatnonzero(np.isfinite(score))
        worst = usable[np.argsort(score[usable])[:NUM_ANOMALIES]]
        columns = survey_columns(file, worst)
    if len(worst):
        arrays = reconstructions(run, rows[worst]) | {"anomaly_score": score[worst]} | columns
        write_arrays(run.directory, "anomalies", arrays)
