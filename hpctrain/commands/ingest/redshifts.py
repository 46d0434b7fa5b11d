"""The option ``--redshifts`` of ``hpctrain ingest``: tables to join, and ``estimate`` for those that are missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.ingest.missing_redshifts import Estimator

ESTIMATE = "estimate"


def add_redshifts(parser: argparse.ArgumentParser, joins_tables: bool) -> None:
    """Add ``--redshifts`` and ``--redshift-templates``; `joins_tables` says whether tables can be joined, too."""
    tables = "redrock, zall, zcat or QSO_cat tables, joined by TARGETID; they override redrock-* files; "
    text = f"'{ESTIMATE}' finds redshifts that are missing from the spectra themselves, by PCA templates"
    parser.add_argument(
        "--redshifts",
        nargs="+",
        default=[],
        metavar="FITS" if joins_tables else ESTIMATE,
        help=(tables if joins_tables else "") + text,
    )
    parser.add_argument(
        "--redshift-templates",
        type=Path,
        metavar="TEMPLATES.h5",
        help=f"templates for --redshifts {ESTIMATE} (default: made of simulated spectra)",
    )


def estimator_of(args: argparse.Namespace, joins_tables: bool) -> Estimator | None:
    """Return the estimator that the options ask for, and leave only tables in ``args.redshifts``.

    Raises
    ------
    ProfileError
        The options contradict each other; the message lists all problems.
    DataError
        The file of templates holds none.
    """
    wanted = ESTIMATE in args.redshifts
    args.redshifts = [name for name in args.redshifts if name != ESTIMATE]
    problems = []
    if args.redshifts and not joins_tables:
        found = ", ".join(args.redshifts)
        problems.append(Problem("--redshifts", f"found {found}; only '{ESTIMATE}' is possible with {args.survey}"))
    if args.redshift_templates and not wanted:
        problems.append(Problem("--redshift-templates", f"needs --redshifts {ESTIMATE}"))
    cuts = {"--need-redshift": args.need_redshift, "--zwarn good": args.zwarn == "good"}
    message = f"drops spectra before --redshifts {ESTIMATE} has seen them; leave out one of the two"
    problems += [Problem(option, message) for option, given in cuts.items() if given and wanted]
    if problems:
        raise ProfileError("hpctrain ingest", problems)
    if not wanted:
        return None
    from hpctrain.redshift.missing import TemplateEstimator

    return TemplateEstimator(args.redshift_templates)
