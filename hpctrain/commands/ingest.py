"""Turn survey files into one HDF5 file of spectra to train on.

ingest reads SDSS/BOSS/eBOSS spec FITS, DESI coadd and spectra FITS, Multimodal Universe HDF5 and Parquet tables. It
resamples the spectra and their variances to one wavelength grid. A summary lists how many spectra were kept, and how
many were dropped for which reason. ingest reports and skips broken files.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from hpctrain.commands.argument_types import positive
from hpctrain.terminal import console

if TYPE_CHECKING:
    from hpctrain.ingest.process import IngestPlan
    from hpctrain.ingest.run import IngestResult

SURVEYS = {
    "sdss": "SDSS, BOSS, eBOSS: spec-PLATE-MJD-FIBER.fits (spec or spec-lite, plain or .gz)",
    "desi": "DESI: coadd-*.fits and spectra-*.fits (plain or .gz), arms merged, redrock redshifts joined",
    "multimodal": "Multimodal Universe: <config>/healpix=*/*.hdf5",
    "parquet": "Parquet tables with list columns (pip install 'hpctrain[parquet]')",
}

MOST_NAMED = 10
"""Largest number of skipped files that the summary names."""

MANY_FILES = 2000
"""Smallest number of SDSS files for which several processes are faster; starting them takes 1 to 2 s."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand per survey, each with its own options and the common ones."""
    subparsers = parser.add_subparsers(dest="survey", metavar="SURVEY", required=True)
    for survey, text in SURVEYS.items():
        sub = subparsers.add_parser(survey, help=text, description=text)
        _add_common(sub, survey)
        if survey == "sdss":
            sub.add_argument(
                "--mask-bits",
                type=_mask_bits,
                default="default",
                metavar="NAMES",
                help="bits of and_mask that mask a pixel: default, any, none, or names such as BRIGHTSKY,NODATA; "
                "docs/ingest.md explains the default set; + adds to it: +BRIGHTSKY",
            )
        if survey == "desi":
            sub.add_argument(
                "--redshifts",
                nargs="+",
                default=[],
                metavar="FITS",
                help="redrock, zall, zcat or QSO_cat tables, joined by TARGETID; they override redrock-* files",
            )
            sub.add_argument(
                "--exposures",
                choices=("coadd", "rows"),
                default="coadd",
                help="several rows of one target in a file: merge them into one coadd (default), or keep each row",
            )
        if survey in ("multimodal", "parquet"):
            sub.add_argument(
                "--column",
                action="append",
                type=_column,
                default=[],
                metavar="OURS=THEIRS",
                help="a column with an unusual name; OURS is flux, ivar, wavelength, mask, target_id, redshift, ...",
            )


def _add_common(parser: argparse.ArgumentParser, survey: str) -> None:
    grid = {"sdss": "sdss", "desi": "desi"}.get(survey, "auto")
    parser.add_argument("sources", nargs="+", metavar="SRC", help="files, folders (searched to any depth) or globs")
    parser.add_argument("--out", required=True, metavar="FILE.h5", help="HDF5 file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.h5 if it exists")
    parser.add_argument(
        "--grid",
        type=_grid,
        default=grid,
        help=f"wavelength grid: desi, sdss, native (of the first spectrum), auto, log:MIN:MAX:DLOG or "
        f"linear:MIN:MAX:STEP [AA] (default {grid})",
    )
    parser.add_argument(
        "--ivar",
        choices=("per_pixel", "conserve"),
        default="per_pixel",
        help="resampled ivar: per_pixel is the true variance of each pixel, conserve keeps the sum of ivar (default "
        "per_pixel)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="stop after N spectra")
    parser.add_argument("--keep-sky", action="store_true", help="keep sky fibres (class SKY, redshift NaN)")
    parser.add_argument(
        "--zwarn", choices=("any", "good"), default="any", help="good keeps only redshifts without a warning"
    )
    parser.add_argument("--need-redshift", action="store_true", help="drop spectra without a redshift")
    parser.add_argument("--spectype", default="", metavar="NAMES", help="keep only these classes, such as QSO,GALAXY")
    parser.add_argument(
        "--min-good-fraction",
        type=_fraction,
        default=0.1,
        metavar="F",
        help="drop spectra with a smaller share of good pixels in their wavelength range (default 0.1)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="number of reading processes, each of which holds a whole file in memory; the output is the same for any "
        "number (default: 1; sdss with 2,000 files or more: all cores up to 8)",
    )
    parser.add_argument("--summary", metavar="FILE.json", help="also write the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Ingest the files, print the summary, return 0."""
    from pathlib import Path

    from hpctrain.ingest.run import run_ingest
    from hpctrain.rundir import write_json

    plan, skipped = _plan(args)
    result = _run_with_progress(plan, run_ingest)
    _print_summary(plan, result, skipped)
    if args.summary:
        Path(args.summary).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(args.summary), {"out": str(plan.out), "skipped": skipped, **result.as_dict()})
    return 0


def _plan(args: argparse.Namespace) -> tuple[IngestPlan, dict[str, str]]:
    from pathlib import Path

    from hpctrain.ingest.process import IngestPlan
    from hpctrain.ingest.selection import Selection
    from hpctrain.ingest.sources import find_sources
    from hpctrain.samples.sink import require_free

    out = Path(args.out).expanduser()
    require_free(out, args.overwrite)
    reader, patterns, not_spectra = _reader(args)
    sources = find_sources(args.sources, patterns, not_spectra)
    if args.survey == "desi":
        _prefer_coadds(sources)
    is_many = args.survey == "sdss" and len(sources.paths) >= MANY_FILES
    plan = IngestPlan(
        survey=args.survey,
        reader=reader,
        paths=[path for path in sources.paths if path.resolve() != out.resolve()],
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
        ids_by_position=args.survey == "sdss",
        overwrite=args.overwrite,
    )
    return plan, sources.skipped


def _reader(args: argparse.Namespace) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Return the survey's reader, patterns of its files, and patterns of files without spectra that they also match."""
    if args.survey == "sdss":
        from hpctrain.ingest import sdss

        return sdss.SdssReader(args.mask_bits), sdss.FILE_NAMES, ("spPlate*", "spZ*", "photoPosPlate*", "specObj*")
    if args.survey == "desi":
        from hpctrain.ingest import desi
        from hpctrain.ingest.redshifts import FILE_NAMES, read_redshifts
        from hpctrain.ingest.sources import find_sources

        tables = find_sources(args.redshifts, FILE_NAMES).paths if args.redshifts else []
        table = read_redshifts(tables) if tables else None
        return desi.DesiReader(args.exposures, table), desi.FILE_NAMES, desi.NOT_SPECTRA
    columns = dict(args.column)
    if args.survey == "multimodal":
        from hpctrain.ingest import multimodal_universe

        return multimodal_universe.MultimodalReader(columns), multimodal_universe.FILE_NAMES, ()
    from hpctrain.ingest import parquet

    return parquet.ParquetReader(columns), parquet.FILE_NAMES, ()


def _prefer_coadds(sources: Any) -> None:
    """Skip spectra-X if the same folder contains coadd-X: both contain the same photons."""
    coadds = {path.with_name(path.name.removeprefix("coadd-").removesuffix(".gz")) for path in sources.paths}
    for path in list(sources.paths):
        unit = path.with_name(path.name.removeprefix("spectra-").removesuffix(".gz"))
        if path.name.startswith("spectra-") and unit in coadds:
            sources.paths.remove(path)
            sources.skipped[str(path)] = "the coadd of the same exposures is read instead"


def _run_with_progress(plan: IngestPlan, run_ingest: Any) -> IngestResult:
    screen = console(sys.stderr)
    if not screen.is_terminal:
        return run_ingest(plan)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    counts = TextColumn(
        "[green]{task.fields[kept]} kept[/] [yellow]{task.fields[dropped]} dropped[/] {task.fields[failed]}"
    )
    with Progress(*columns, counts, console=screen, transient=True) as progress:
        task = progress.add_task(f"ingest {plan.survey}", total=len(plan.paths), kept=0, dropped=0, failed="")

        def show(_: Any, tally: Any) -> None:
            failed = f"[red]{len(tally.failed_files)} unreadable[/]" if tally.failed_files else ""
            progress.update(
                task, completed=tally.num_files, kept=tally.num_kept, dropped=tally.num_dropped, failed=failed
            )

        return run_ingest(plan, show)


def _print_summary(plan: IngestPlan, result: IngestResult, skipped: dict[str, str]) -> None:
    tally, wavelength = result.tally, result.wavelength_aa
    span = f"{len(wavelength)} pixels from {wavelength[0]:.1f} to {wavelength[-1]:.1f} AA"
    seconds = max(result.seconds, 1e-9)
    speed = f"{result.seconds:.1f} s, {tally.num_files / seconds:.0f} files/s, {tally.num_read / seconds:.0f} spectra/s"
    print(f"{plan.out}: {_number(tally.num_kept, 'spectra', 'spectrum')} of {_number(result.num_objects, 'objects')}")
    print(f"  grid     {result.grid_name}; {span}; ivar {plan.ivar_convention}")
    print(
        f"  read     {_number(tally.num_read, 'spectra', 'spectrum')} in {_number(tally.num_files, 'files')} ({speed})"
    )
    print(f"  kept     {tally.num_kept}")
    if tally.num_merged:
        print(f"  merged   {_number(tally.num_merged, 'exposures')} into the coadd of their target")
    print(f"  dropped  {tally.num_dropped}")
    for reason, count in tally.dropped.most_common():
        print(f"    {count:6d}  {reason}")
    for remark, count in tally.remarks.most_common():
        print(f"  note     {count}: {remark}")
    if skipped:
        print(f"  skipped  {_number(len(skipped), 'files')}")
        for path, reason in list(skipped.items())[:MOST_NAMED]:
            print(f"    {path}: {reason}")
        if len(skipped) > MOST_NAMED:
            print(f"    and {len(skipped) - MOST_NAMED} more (--summary has all)")
    for remark in result.warnings:
        print(f"warning: {remark}", file=sys.stderr)
    if tally.failed_files:
        print(f"could not be read (to the end): {_number(len(tally.failed_files), 'files')}", file=sys.stderr)
        for line in tally.failures():
            print(f"  {line}", file=sys.stderr)


def _number(count: int, plural: str, singular: str = "") -> str:
    return f"{count} {(singular or plural.removesuffix('s')) if count == 1 else plural}"


def _num_cores() -> int:
    # Count the cores that Slurm or taskset gave us, not those of the machine; macOS has no such call.
    given = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(given), 8)


def _grid(text: str) -> Any:
    from hpctrain.errors import DataError
    from hpctrain.ingest.grid import parse_grid

    try:
        return parse_grid(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _mask_bits(text: str) -> int:
    from hpctrain.errors import DataError
    from hpctrain.ingest.bitmasks import SDSS_BAD_BITS, combine_bits

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["default"]:
        names = list(SDSS_BAD_BITS)
    elif names and all(name.startswith("+") for name in names):
        names = [*SDSS_BAD_BITS, *(name[1:] for name in names)]
    try:
        return combine_bits(names)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _column(text: str) -> tuple[str, str]:
    from hpctrain.ingest.table_columns import KNOWN_NAMES

    allowed = sorted({"flux", "ivar", "wavelength", "mask", *KNOWN_NAMES})
    ours, _, theirs = text.partition("=")
    if ours not in allowed or not theirs:
        raise argparse.ArgumentTypeError(f"'{text}': write OURS=THEIRS, with OURS one of {', '.join(allowed)}")
    return ours, theirs


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return number
