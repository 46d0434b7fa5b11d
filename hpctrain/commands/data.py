"""Look at files of spectra on a disk: how fast they are and why, a faster layout, and whether they are still whole."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpctrain.terminal import console

_STOPPING = (signal.SIGINT, signal.SIGTERM)

_DOCTOR = """Say how fast these files are on this disk, why, what would make them faster, and what is wrong with them.

Measures for a few seconds: the disk, random rows through the reader of the trainer, decoding. Looks at the values of a
sample, or of all rows with --full, which also checks the SHA-256 in the files. Estimates are called estimates.
"""
_REPACK = """Write one file in the layout that reads fastest, from one or several that are one set.

By default flux and ivar become contiguous float32, uncompressed; every other dataset, group and attribute is kept. The
new file gets its name only when every column was read back from it and had the SHA-256 of its source.
"""
_VERIFY = """Read files and compare each column with the SHA-256 that was written into the file with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    doctor = _add(commands, "doctor", "how fast files are, why, and what is wrong in them", _DOCTOR)
    doctor.add_argument("files", nargs="+", metavar="FILE", help="files or quoted globs that make one set")
    doctor.add_argument("--full", action="store_true", help="look at all rows, and check the SHA-256 in the files")
    doctor.add_argument("--json", action="store_true", help="print all figures as JSON")
    _add_column(doctor)

    repack = _add(commands, "repack", "write files anew in a faster or smaller layout", _REPACK)
    repack.add_argument("files", nargs="+", metavar="FILE", help="files or quoted globs that make one set")
    repack.add_argument("--out", type=Path, required=True, metavar="OUT.h5", help="file to make")
    repack.add_argument("--layout", choices=("contiguous", "chunked"), help="default: contiguous unless compressed")
    repack.add_argument(
        "--compression",
        choices=("none", "gzip", "bitshuffle-lz4", "bitshuffle-zstd"),
        help="default: none; with --quantise bitshuffle-lz4 (pip install 'hpctrain[filters]')",
    )
    repack.add_argument("--chunk-rows", type=int, metavar="N", help="spectra of a chunk (as many as make 2 MiB)")
    repack.add_argument(
        "--dtype", choices=("float32", "float16"), help="of flux and ivar; default: float16 stays, others float32"
    )
    repack.add_argument(
        "--quantise", action="store_true", help="round to sigma / 8 and compress: a quarter of the size"
    )
    repack.add_argument("--drop", action="append", default=[], metavar="DATASET", help="leave a dataset out")
    repack.add_argument("--ignore-hashes", action="store_true", help="take a source whose SHA-256 do not fit")
    repack.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it exists")
    _add_column(repack)

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
    """Do what was asked for."""
    return {"doctor": _doctor, "repack": _repack, "verify": _verify}[args.action](args)


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
    against = "what was to be written" if done.loss_text else "its source"
    print(f"  verified  {done.num_verified} columns read back, each with the SHA-256 of {against}")
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
    """Stop between two blocks on Ctrl-C and on the queue's TERM, so that an unfinished file of many GB does not stay.

    Not wherever the signal happens to come: within a call from libhdf5, an exception would be taken for a bad disk.
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
    """Show a bar where someone can see it."""
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
