"""Find redshifts and classes of spectra, by chi-square of PCA templates at all redshifts.

  hpctrain redshift FILE.h5 ... --out REDSHIFTS.h5                redshifts of spectra on any wavelength grid
  hpctrain redshift templates [FILE.h5 ...] --out TEMPLATES.h5    make templates from spectra with redshift and class

The catalogue is an HDF5 file with one row per spectrum, in the order of the input. Its columns are target_id, Z, ZERR,
ZWARN (0 is good; any bit names a reason for doubt), SPECTYPE, CHI2, DELTACHI2 (how much worse the best other redshift
is), Z_SECOND, SPECTYPE_SECOND, COEFF, PZ (probability of the redshift in bins), and every other column of the input
with one value per spectrum. The files need no redshift; one that they have is copied, and not used.
Without --templates, templates are made of simulated quasars and galaxies with pixels like those of the spectra.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hpctrain.commands.argument_types import positive
from hpctrain.commands.encode import changed_columns
from hpctrain.commands.using_model import check_out, choose_device, progress_bar
from hpctrain.errors import Problem, ProfileError

SOURCE = "hpctrain redshift"
TEMPLATES = "templates"

_ONLY_SEARCH = {"templates": "--templates", "batch_size": "--batch-size", "reader_threads": "--reader-threads"}
_ONLY_TEMPLATES = {"components": "--components", "simulated": "--simulated", "seed": "--seed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain redshift``."""
    parser.add_argument("files", nargs="+", metavar="FILE.h5", help="files of spectra on one wavelength grid")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.h5", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=DATASET",
        help="name of a dataset in the files, such as flux=spectrum_flux",
    )
    search = parser.add_argument_group("options of the search")
    search.add_argument(
        "--templates", type=Path, metavar="TEMPLATES.h5", help="templates to use (default: made of simulated spectra)"
    )
    search.add_argument("--batch-size", type=positive, metavar="N", help="spectra per batch (256)")
    search.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto: GPU if there is one")
    search.add_argument("--reader-threads", type=int, metavar="N", help="threads that read ahead (2)")
    make = parser.add_argument_group("options of `hpctrain redshift templates`")
    make.add_argument("--components", type=positive, metavar="K", help="components beside the mean spectrum (5)")
    make.add_argument("--simulated", type=int, metavar="N", help="simulated spectra of each class to add (1000)")
    make.add_argument("--seed", type=int, metavar="N", help="seed of the simulation")


def run(args: argparse.Namespace) -> int:
    """Find redshifts, or make templates; print a summary."""
    makes_templates = args.files[0] == TEMPLATES
    _refuse_others(args, _ONLY_SEARCH if makes_templates else _ONLY_TEMPLATES, makes_templates)
    if makes_templates:
        args.files = args.files[1:]
    check_out(SOURCE, args)
    return _make_templates(args) if makes_templates else _search(args)


def _refuse_others(args: argparse.Namespace, others: dict[str, str], makes_templates: bool) -> None:
    """Refuse options that belong to the other half of the command."""
    which = "is an option of the search" if makes_templates else "is an option of `hpctrain redshift templates`"
    problems = [Problem(option, which) for name, option in others.items() if getattr(args, name) is not None]
    if problems:
        raise ProfileError(SOURCE, problems)


def _search(args: argparse.Namespace) -> int:
    from hpctrain.kinds.spectra.hdf5 import open_spectra
    from hpctrain.kinds.spectra.section import ColumnsWithoutRedshift, SpectraSection
    from hpctrain.redshift.choice import grid_of, templates_for
    from hpctrain.redshift.estimate import RedshiftEstimator
    from hpctrain.redshift.write import write_redshifts

    columns = changed_columns(SOURCE, ColumnsWithoutRedshift(), args.column)
    spectra = open_spectra(SpectraSection(files=args.files, columns=columns))
    device = choose_device(SOURCE, args.device)
    templates, notes = templates_for(args.templates, grid_of(spectra))
    for note in [*spectra.notes, *notes]:
        print(f"note: {note}")
    with progress_bar("finding redshifts", len(spectra)) as on_batch:
        summary = write_redshifts(
            RedshiftEstimator(templates, device),
            spectra,
            args.out,
            batch_size=args.batch_size or 256,
            reader_threads=2 if args.reader_threads is None else max(0, args.reader_threads),
            on_batch=on_batch,
        )
    print(summary)
    return 0


def _make_templates(args: argparse.Namespace) -> int:
    from hpctrain.kinds.spectra.hdf5 import open_spectra
    from hpctrain.kinds.spectra.section import ColumnsSection, SpectraSection
    from hpctrain.redshift.build import NUM_COMPONENTS, NUM_SIMULATED, SEED, build_templates
    from hpctrain.redshift.templates import save_templates

    num_simulated = NUM_SIMULATED if args.simulated is None else max(0, args.simulated)
    if not args.files and not num_simulated:
        raise ProfileError(SOURCE, [Problem("--simulated", "0 leaves nothing to make templates from; name files")])
    columns = changed_columns(SOURCE, ColumnsSection(), args.column)
    sets = [open_spectra(SpectraSection(files=args.files, columns=columns))] if args.files else []
    templates, notes = build_templates(
        sets,
        num_components=args.components or NUM_COMPONENTS,
        num_simulated=num_simulated,
        seed=SEED if args.seed is None else args.seed,
    )
    save_templates(args.out, templates)
    for note in [*(note for spectra in sets for note in spectra.notes), *notes]:
        print(f"note: {note}")
    print(f"{args.out}: templates of {len(templates.classes)} classes")
    for template in templates.classes:
        origins = templates.provenance["spectra"][template.name]
        listed = " and ".join(f"{count:,} {origin}" for origin, count in origins.items())
        searched = f"redshifts {template.redshift_min:.3f} to {template.redshift_max:.3f}"
        print(f"  {template.name:<8} {len(template.basis) - 1} components from {listed} spectra; {searched}")
    return 0
