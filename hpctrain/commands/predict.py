"""Predict samples with a trained model of any family, into an HDF5 file with one row per sample.

The columns are those that the model's family defines, beside target_id and row; the rows are in the order of the input.
For the spectral autoencoder ``hpctrain encode`` writes more: anomaly scores and the columns of the survey. The command
streams the samples, so files may be larger than memory.

With --ensemble several runs of the same labels, such as those of other seeds, are mixed with equal weights; with --mc N
one network with dropout computes N times. Both also write which part of each uncertainty the models share (ALEATORIC)
and in which part they differ (EPISTEMIC).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hpctrain.access import enter
from hpctrain.commands.argument_types import positive
from hpctrain.commands.using_model import add_model_arguments, check_out, choose_device, model_of, progress_bar
from hpctrain.errors import Problem, ProfileError
from hpctrain.registry.references import model_at
from hpctrain.signing.keys import anchors_of

SOURCE = "hpctrain predict"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain predict``."""
    files = "files like those that the model was trained on"
    add_model_arguments(parser, "FILE", files, "PREDICTIONS.h5", "samples")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--ensemble", nargs="+", metavar="RUN", default=[], help="further runs, to mix with RUN")
    several.add_argument("--mc", type=positive, metavar="N", help="mix N passes with the network's dropout on")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the dropout of --mc (0)")


def run(args: argparse.Namespace) -> int:
    """Predict the samples, and print how many."""
    args.run_dir = model_of(args)
    enter(args.run_dir)
    if args.ensemble or args.mc:
        return _run_together(args)
    import numpy as np
    import torch

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.predictions import open_for, write_predictions
    from hpctrain.families.store import load_model
    from hpctrain.profile.lookup import find_family, find_kind

    check_out(SOURCE, args)
    device = choose_device(SOURCE, args.device)
    model, card = load_model(args.run_dir, device, args.checkpoint)
    kind = find_kind(find_family(card["family"]).kind)
    samples = open_for(args.run_dir, card, args.files)
    for note in samples.notes:
        print(f"note: {note}")
    with progress_bar("predicting", len(samples)) as tick:
        asked = HeldOut(
            samples=samples,
            rows=np.arange(len(samples), dtype=np.int64),
            prepare=kind.preparation(card),
            batch_size=args.batch_size,
            device=torch.device(device),
            tick=tick,
        )
        done = write_predictions(model, card, asked, args.out, max(0, args.reader_threads))
    print(f"{args.out}: predictions of {done:,} {kind.words.many if done != 1 else kind.words.one}")
    return 0


def _run_together(args: argparse.Namespace) -> int:
    """Predict with the mixture of several runs, or of several passes of one; print how many samples."""
    from hpctrain.search.ensemble_predict import predict_ensemble

    if args.checkpoint is not None:
        raise ProfileError(
            SOURCE, [Problem("--checkpoint", "is for one model; --ensemble and --mc take finished runs")]
        )
    check_out(SOURCE, args)
    device = choose_device(SOURCE, args.device)
    runs = [args.run_dir, *(model_at(name, args.runs_dir, anchors_of(args.public_key)) for name in args.ensemble)]
    members = [{"run": str(Path(run).absolute()), "weight": 1 / len(runs)} for run in runs]
    said = predict_ensemble(
        Path("/"),
        {"members": members},
        args.files,
        args.out,
        progress_bar,
        device,
        args.batch_size,
        max(0, args.reader_threads),
        args.mc or 0,
        args.seed,
        parts=True,
    )
    print(said)
    return 0
