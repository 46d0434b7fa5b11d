"""Turn survey files into one HDF5 file of spectra, or of light curves, to train on.

ingest reads the files of SDSS, BOSS, eBOSS, DESI, LAMOST and the Multimodal Universe as they are, and any other FITS,
HDF5, npz, csv or text files after you named their columns; --preview shows what a file has. It resamples the spectra
and their variances to one wavelength grid. ``light-curves`` reads observations of variable objects. A summary lists
how many spectra were kept, and how many were dropped for which reason. ingest reports and skips broken files.
"""

from __future__ import annotations

import argparse
import importlib
import os
from functools import partial
from typing import TYPE_CHECKING

from hpctrain.commands.ingest import light_curves
from hpctrain.commands.ingest.options import add_common
from hpctrain.commands.ingest.redshifts import add_redshifts, estimator_of
from hpctrain.commands.ingest.summary import print_summary, run_with_progress

if TYPE_CHECKING:
    from pathlib import Path

    from hpctrain.commands.ingest.way import Prepared, Way
    from hpctrain.ingest.process import IngestPlan

WAYS = ("sdss", "desi", "lamost", "multimodal", "parquet", "fits", "hdf5", "table", "any")
"""Subcommands, in the order of the help; each is a module of this package."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand per way to read spectra, each with its own options and the common ones."""
    subparsers = parser.add_subparsers(dest="survey", metavar="SURVEY", required=True)
    for name in WAYS:
        way = _way(name)
        sub = subparsers.add_parser(name, help=way.text, description=way.text)
        add_common(sub, way.grid)
        add_redshifts(sub, way.joins_redshifts)
        way.add_options(sub)
        sub.set_defaults(refuse=sub.error)
    sub = subparsers.add_parser(light_curves.NAME, help=light_curves.TEXT, description=light_curves.TEXT)
    light_curves.add_options(sub)
    sub.set_defaults(refuse=sub.error)


def run(args: argparse.Namespace) -> int:
    """Ingest the files, print the summary, return 0."""
    if args.survey == light_curves.NAME:
        return light_curves.run(args)
    from pathlib import Path

    from hpctrain.ingest.run import run_ingest
    from hpctrain.rundir import write_json
    from hpctrain.samples.sink import require_free

    is_preview = getattr(args, "preview", False)
    if args.out is None and not is_preview:
        args.refuse("the following arguments are required: --out")
    out = Path(args.out or "preview").expanduser()
    if not is_preview:
        require_free(out, args.overwrite)
    way = _way(args.survey)
    estimator = estimator_of(args, way.joins_redshifts)
    prepared = way.prepare(args)
    if prepared.only_preview:
        return 0
    plan = _plan(args, out, way, prepared)
    result = run_with_progress(plan, partial(run_ingest, estimator=estimator))
    print_summary(plan, result, prepared.skipped)
    if args.summary:
        Path(args.summary).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(args.summary), {"out": str(plan.out), "skipped": prepared.skipped, **result.as_dict()})
    return 0


def _way(name: str) -> Way:
    return importlib.import_module(f"hpctrain.commands.ingest.{name}").WAY


def _plan(args: argparse.Namespace, out: Path, way: Way, prepared: Prepared) -> IngestPlan:
    from hpctrain.ingest.process import IngestPlan
    from hpctrain.ingest.selection import Selection
    from hpctrain.kinds.spectra.layout import FLUX_UNIT

    is_many = way.many_files is not None and len(prepared.paths) >= way.many_files
    return IngestPlan(
        survey=args.survey,
        reader=prepared.reader,
        paths=[path for path in prepared.paths if path.resolve() != out.resolve()],
        out=out,
        grid=args.grid,
        ivar_convention=args.ivar,
        selection=Selection(
            keep_sky=args.keep_sky,
            only_good_zwarn=args.zwarn == "good",
            need_redshift=args.need_redshift,
            spectypes=tuple(name.strip().upper() for name in args.spectype.split(",") if name.strip()),
            min_good_fraction=args.min_good_fraction,
        ),
        limit=args.limit,
        workers=args.workers or (_num_cores() if is_many else 1),
        ids_by_position=prepared.ids_by_position,
        flux_unit=prepared.flux_unit or FLUX_UNIT,
        meanings=prepared.meanings,
        overwrite=args.overwrite,
    )


def _num_cores() -> int:
    # Count the cores that Slurm or taskset gave us, not those of the machine; macOS has no such call.
    given = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(given), 8)
