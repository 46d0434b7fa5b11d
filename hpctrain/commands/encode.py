"""Encode spectra with a trained model into a catalogue of latent vectors, reconstruction error and anomaly score.

The catalogue is an HDF5 file with one row per spectrum, in the order of the input. Its columns are target_id, redshift,
LATENT_VEC (float16), RECON_MSE (reduced chi-square over valid pixels), SNR, ANOMALY_SCORE (3 if one in 1000 ordinary
objects scores as high), its parts LOCAL_CHI2 and LATENT_DENSITY, ANOMALY_REASON, FOREST_SCORE (Isolation Forest), NORM,
WINDOW, NUM_PIXELS and STATUS (0 means encoded; any other value gives the reason why not, and the numbers are then NaN).
The catalogue also keeps every other column of the input with one value per spectrum, such as ra and dec. The command
streams the spectra, so files may be larger than memory. `hpctrain anomalies LATENTS.h5` lists the most unusual objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import enter
from hpctrain.commands.using_model import add_model_arguments, check_out, choose_device, model_of, progress_bar
from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.kinds.spectra.hdf5 import SpectraSet
    from hpctrain.kinds.spectra.section import ColumnsSection

SOURCE = "hpctrain encode"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain encode``."""
    add_model_arguments(parser, "FILE.h5", "spectra on the wavelength grid of the model", "LATENTS.h5", "spectra")
    parser.add_argument(
        "--split",
        choices=("all", "train", "validation", "test"),
        default="all",
        help="encode only objects on this side of the run's own split (default: all)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=DATASET",
        help="name of a dataset in the files, such as flux=spectrum_flux (default: as in the run's profile)",
    )
    parser.add_argument(
        "--score-against",
        choices=("auto", "file", "model"),
        default="auto",
        help="what anomaly scores compare with: the other spectra of these files, or those that the run held out "
        "(auto: the files from 1,000 encoded spectra on, or if the run held out fewer)",
    )


def run(args: argparse.Namespace) -> int:
    """Encode the spectra, and print how many were encoded."""
    args.run_dir = model_of(args)
    enter(args.run_dir)
    import numpy as np

    from hpctrain.families.spectral_vae.encode import encode_to_file
    from hpctrain.families.store import load_model
    from hpctrain.kinds.spectra.hdf5 import open_spectra
    from hpctrain.kinds.spectra.section import SpectraSection
    from hpctrain.rundir import RunDir, note_test_look

    check_out(SOURCE, args)
    device = choose_device(SOURCE, args.device)
    model, card = load_model(args.run_dir, device, args.checkpoint)
    if not hasattr(model, "describe"):
        message = f"a model of the family {card['family']} has no latent vectors; use: hpctrain predict"
        raise ProfileError(SOURCE, [Problem("RUN", message)])
    spectra = open_spectra(SpectraSection(files=args.files, columns=_columns(args.run_dir, args.column)))
    for note in spectra.notes:
        print(f"note: {note}")
    rows = np.arange(len(spectra), dtype=np.int64) if args.split == "all" else _side(spectra, card, args.split)
    if args.split == "test":
        note_test_look(RunDir(args.run_dir), SOURCE, len(rows))
    with progress_bar("encoding", len(rows)) as on_batch:
        summary = encode_to_file(
            model,
            card,
            spectra,
            rows,
            args.out,
            batch_size=args.batch_size,
            device=device,
            reader_threads=max(0, args.reader_threads),
            on_batch=on_batch,
            against=args.score_against,
        )
    print(summary)
    return 0


def _columns(run: Path, overrides: list[str]) -> ColumnsSection:
    """Return the names of datasets: those of the run's profile, if there is one, changed by ``--column``."""
    from hpctrain.kinds.spectra.section import ColumnsSection
    from hpctrain.profile.load import load_profile

    profile = run / "profile.yaml"
    columns = load_profile(profile).data.columns if profile.is_file() else ColumnsSection()
    return changed_columns(SOURCE, columns, overrides)


def changed_columns(source: str, columns: ColumnsSection, overrides: list[str]) -> ColumnsSection:
    """Return names of datasets that options ``--column NAME=DATASET`` have changed.

    Parameters
    ----------
    source : str
        The command, for messages.
    columns : ColumnsSection
        The names to change; a name that is None cannot be changed, unless it is that of the mask.
    overrides : list of str
        Values of the options.

    Raises
    ------
    ProfileError
        An option is not of this form; the message lists all of them.
    """
    known = [name for name, dataset in columns if dataset is not None or name == "mask"]
    changes, problems = {}, []
    for text in overrides:
        name, sign, dataset = text.partition("=")
        if not sign or not dataset or name not in known:
            problems.append(Problem("--column", f"{text!r} is not NAME=DATASET with NAME one of {', '.join(known)}"))
        changes[name] = dataset
    if problems:
        raise ProfileError(source, problems)
    return columns.model_copy(update=changes)


def _side(spectra: SpectraSet, card: dict[str, Any], side: str) -> np.ndarray:
    """Return the rows of the objects that the run trained on or held out, by the split in its model card."""
    import json

    import numpy as np

    from hpctrain.errors import CheckpointError, DataError
    from hpctrain.profile.sections.data import SplitSection
    from hpctrain.samples import split

    if "split" not in card:
        raise CheckpointError(f"{card['weights']}: its model.json does not say how objects were split; use --split all")
    section = SplitSection.model_validate_json(json.dumps(card["split"]))
    wanted = {"train": split.TRAIN, "validation": split.VALIDATION, "test": split.TEST}[side]
    rows = np.flatnonzero(split.assign_split(spectra.target_id, section, spectra.column) == wanted).astype(np.int64)
    if not len(rows):
        raise DataError(f"none of the {len(spectra)} spectra is on the {side} side of the run's split")
    return rows
