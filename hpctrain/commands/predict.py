"""Predict samples with a trained model of any family, into an HDF5 file with one row per sample.

The columns are those that the model's family defines, beside target_id and row; the rows are in the order of the input.
For the spectral autoencoder ``hpctrain encode`` writes more: anomaly scores and the columns of the survey. The command
streams the samples, so files may be larger than memory.
"""

from __future__ import annotations

import argparse

from hpctrain.commands.using_model import add_model_arguments, check_out, choose_device, progress_bar
from hpctrain.registry.references import model_at

SOURCE = "hpctrain predict"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain predict``."""
    files = "files like those that the model was trained on"
    add_model_arguments(parser, "FILE", files, "PREDICTIONS.h5", "samples")


def run(args: argparse.Namespace) -> int:
    """Predict the samples, and print how many."""
    args.run_dir = model_at(args.run_dir, args.runs_dir)
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
