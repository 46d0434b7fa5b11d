"""Inspect files: check new data against what is expected of them, measure how fast they read, write a faster layout."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpctrain.commands.data_expect import EXPECT, VALIDATE, add_expect, add_validate, expect, validate
from hpctrain.terminal import console

_STOPPING = (signal.SIGINT, signal.SIGTERM)

_DOCTOR = """Report how fast these files read from this disk, the reasons, faster layouts, and errors in the data.

doctor measures for a few seconds how fast the disk is, how fast the trainer's reader reads random rows, and how fast it
decodes them. It inspects the values of a sample. With --full it inspects all rows and checks the SHA-256 in the files.
The report marks estimates as estimates.
"""
_REPACK = """Write one file in the layout that reads fastest, from one or more files that make one set.

By default flux and ivar become contiguous float32, uncompressed; every other dataset, group and attribute is kept. The
new file gets its name only after repack has read back every column and found the SHA-256 of its source.
"""
_JOIN = """Write a copy of a file of spectra with columns of a catalogue, such as labels that a paper has published.

    hpctrain data join sdss.h5 white_dwarfs.fits --on specobjid=SPECOBJID --column teff=TEFF logg=LOGG --out labelled.h5
    hpctrain data join sdss.h5 morphology.csv --sky 1.0 --column p_spiral --out labelled.h5

The catalogue is a FITS, CSV, ECSV, VOTable, text or Parquet table with one row per object. Spectra without a row get
NaN or an empty text, which labels take as missing. Each new column says where it is from.
"""
_VERIFY = """Read files and compare each column with the SHA-256 that the file stores for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    doctor = _add(commands, "doctor", "report how fast files read, the reasons, and errors in the data", _DOCTOR)
    doctor.add_argument("files", nargs="+", metavar="FILE", help="files or quoted globs that make one set")
    doctor.add_argument("--full", action="store_true", help="inspect all rows, and check the SHA-256 in the files")
    doctor.add_argument("--json", action="store_true", help="print all figures as JSON")
    _add_column(doctor)

    repack = _add(commands, "repack", "rewrite files in a faster or smaller layout", _REPACK)
    repack.add_argument("files", nargs="+", metavar="FILE", help="files or quoted globs that make one set")
    repack.add_argument("--out", type=Path, required=True, metavar="OUT.h5", help="file to write")
    repack.add_argument("--layout", choices=("contiguous", "chunked"), help="default: contiguous unless compressed")
    repack.add_argument(
        "--compression",
        choices=("none", "gzip", "bitshuffle-lz4", "bitshuffle-zstd"),
        help="default: none; with --quantise bitshuffle-lz4 (pip install 'hpctrain[filters]')",
    )
    repack.add_argument(
        "--chunk-rows", type=int, metavar="N", help="spectra per chunk (default: as many as fill 2 MiB)"
    )
    repack.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        help="type of flux and ivar; default: float32, but float16 remains float16",
    )
    repack.add_argument(
        "--quantise", action="store_true", help="round to sigma / 8 and compress: a quarter of the size"
    )
    repack.add_argument("--drop", action="append", default=[], metavar="DATASET", help="omit a dataset")
    repack.add_argument("--ignore-hashes", action="store_true", help="accept a source whose SHA-256 do not match")
    repack.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    _add_column(repack)

    joined = _add(commands, "join", "add columns of a catalogue, such as labels", _JOIN)
    joined.add_argument("file", type=Path, metavar="FILE.h5", help="file of spectra")
    joined.add_argument("catalogue", type=Path, metavar="CATALOGUE", help="table with a row per object")
    how = joined.add_mutually_exclusive_group(required=True)
    how.add_argument("--on", metavar="OURS[=THEIRS]", help="columns that are equal, such as target_id=TARGETID")
    how.add_argument("--sky", type=float, metavar="ARCSEC", help="largest distance on the sky, by ra and dec of both")
    joined.add_argument(
        "--column", nargs="+", action="extend", required=True, metavar="[NEW=]THEIRS", help="columns to add"
    )
    joined.add_argument(
        "--missing",
        nargs="+",
        type=float,
        default=[],
        metavar="VALUE",
        help="numbers that mean not known, such as -9999",
    )
    joined.add_argument("--hdu", type=int, metavar="N", help="extension of a FITS file (default: the first table)")
    joined.add_argument("--out", type=Path, required=True, metavar="OUT.h5", help="file to write")
    joined.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists; it may be FILE.h5")

    add_expect(_add(commands, "expect", "propose from good files what data must be like", EXPECT))
    add_validate(_add(commands, "validate", "check new files against expectations, and for drift", VALIDATE))

    verify = _add(commands, "verify", "compare columns with the SHA-256 in the file", _VERIFY)
    verify.add_argument("files", nargs="+", metavar="FILE", help="files or quoted globs")


def _add(commands: Any, name: str, text: str, description: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column",
        action="append",
        type=_column,
        default=[],
        metavar="OURS=THEIRS",
        help="name of a column in the files; OURS is flux, ivar, mask, wavelength, target_id or redshift",
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    actions = {"doctor": _doctor, "repack": _repack, "join": _join, "verify": _verify}
    return {**actions, "expect": expect, "validate": validate}[args.action](args)


def _doctor(args: argparse.Namespace) -> int:
    from hpctrain.storage.doctor import examine
    from hpctrain.storage.show import as_text

    with _progress() as on_progress:
        found = examine(args.files, dict(args.column), full=args.full, on_progress=on_progress)
    print(json.dumps(found.as_dict(), indent=2) if args.json else as_text(found))
    return found.exit_code


def _repack(args: argparse.Namespace) -> int:
    from hpctrain.storage.repack import repack
    from hpctrain.storage.target import Target

    target = Target(args.layout, args.compression, args.chunk_rows, args.dtype, args.quantise)
    with _progress() as show, _stoppable(show) as on_progress:
        done = repack(
            args.files,
            args.out,
            target,
            columns=dict(args.column),
            drop=args.drop,
            overwrite=args.overwrite,
            ignore_hashes=args.ignore_hashes,
            on_progress=on_progress,
        )
    ratio = done.source_bytes / done.out_bytes
    smaller = f", {ratio:.2f} times smaller" if ratio > 1.005 else ""
    size = f"{done.out_bytes / 1e9:.3f} GB{smaller}"
    print(f"{args.out}: {done.num_spectra:,} spectra of {done.num_pixels:,} pixels, {size} in {done.seconds:.0f} s")
    if done.loss_text:
        print(f"  rounded   {done.loss_text}")
    against = "the rounded values" if done.loss_text else "its source"
    print(f"  verified  {done.num_verified} columns read back, each with the SHA-256 of {against}")
    for note in done.notes:
        print(f"  note      {note}")
    return 0


def _join(args: argparse.Namespace) -> int:
    from hpctrain.ingest.join import Match, join

    if args.sky is not None:
        match = Match(radius_arcsec=args.sky)
    else:
        ours, _, theirs = args.on.partition("=")
        match = Match(ours, theirs or ours)
    columns = {}
    for text in args.column:
        new, _, theirs = text.partition("=")
        columns[new] = theirs or new
    done = join(
        args.file,
        args.catalogue,
        match,
        columns,
        args.out,
        missing=args.missing,
        hdu=args.hdu,
        overwrite=args.overwrite,
    )
    print(f"{done.out}: {done.num_matched:,} of {done.num_spectra:,} spectra have a row ({match.describe()})")
    for name, number in done.num_known.items():
        print(f"  {name:<16}  {number:,} known")
    for note in done.notes:
        print(f"  note      {note}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from hpctrain.storage.verify import verify_files

    with _progress() as on_progress:
        lines, is_good = verify_files(args.files, on_progress)
    print("\n".join(lines))
    return 0 if is_good else 4


@contextlib.contextmanager
def _stoppable(show: Any) -> Iterator[Any]:
    """Stop between two blocks on Ctrl-C and on the queue's TERM, so that no unfinished file of many GB remains.

    The process does not stop at the moment of the signal: libhdf5 would report an exception in its call as a bad disk.
    """
    stopped: list[int] = []

    def on_progress(what: str, done: int, total: int) -> None:
        if stopped:
            raise KeyboardInterrupt if stopped[0] == signal.SIGINT else SystemExit(128 + stopped[0])
        if show is not None:
            show(what, done, total)

    before = {one: signal.signal(one, lambda number, _: stopped.append(number)) for one in _STOPPING}
    try:
        yield on_progress
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show


def _column(text: str) -> tuple[str, str]:
    roles = ("flux", "ivar", "mask", "wavelength", "target_id", "redshift")
    ours, _, theirs = text.partition("=")
    if ours not in roles or not theirs:
        raise argparse.ArgumentTypeError(f"'{text}': write OURS=THEIRS, with OURS one of {', '.join(roles)}")
    return ours, theirs
