"""``hpctrain ingest light-curves``: observations of many objects into one file of light curves."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from hpctrain.commands.argument_types import positive_number

if TYPE_CHECKING:
    from hpctrain.ingest.light_curves.run import CurvesPlan, CurvesResult

NAME = "light-curves"
TEXT = "light curves: tables with a row per observation, VOTable, SNANA text files, alerts as Avro or JSON"

MOST_NAMED = 10
"""Largest number of lines on files that could not be read."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", metavar="SRC", help="files, folders (searched to any depth) or globs")
    parser.add_argument("--out", metavar="FILE.h5", help="HDF5 file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.h5 if it exists")
    parser.add_argument(
        "--column",
        action="extend",
        nargs="+",
        type=_column,
        default=[],
        metavar="OURS=THEIRS",
        help="OURS is id, time, value, error or band; THEIRS is a name in the files (default: usual names)",
    )
    parser.add_argument("--band", default="", metavar="NAME", help="band of all observations, if no column has it")
    parser.add_argument(
        "--assume-error", type=positive_number, metavar="X", help="error of all observations, if no column has it"
    )
    parser.add_argument("--unit", default="", help="unit of the values (default: mag or flux, by the column's name)")
    parser.add_argument(
        "--missing",
        nargs="*",
        type=float,
        default=[-9999.0, -999.0, -99.0, 99.0, 999.0, 9999.0],
        metavar="X",
        help="numbers that mean that there is no value (default: -9999 -999 -99 99 999 9999)",
    )
    group = parser.add_argument_group("labels")
    group.add_argument("--labels", metavar="TABLE", help="table with a row per object; its columns become labels")
    group.add_argument("--labels-id", default="", metavar="NAME", help="column of TABLE that identifies the object")
    group.add_argument(
        "--label",
        action="extend",
        nargs="+",
        type=_label,
        default=[],
        metavar="OURS=THEIRS",
        help="only these columns: of TABLE (default: all), or without --labels of the observations themselves",
    )
    parser.add_argument(
        "--periods",
        type=positive_number,
        metavar="DAYS",
        help="find the period of each curve (Lomb-Scargle) that is not shorter: columns ls_period and ls_power",
    )
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="compute the columns that data.statistics reads: plain ones, and with --periods those of the period too",
    )
    parser.add_argument("--summary", metavar="FILE.json", help="also write the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Read the observations, write the file, print the summary, return 0."""
    from pathlib import Path

    from hpctrain.ingest.light_curves.readers import FILE_NAMES
    from hpctrain.ingest.light_curves.run import CurvesPlan, Reading, ingest_light_curves
    from hpctrain.ingest.sources import find_sources
    from hpctrain.rundir import write_json
    from hpctrain.samples.sink import require_free

    if args.out is None:
        args.refuse("the following arguments are required: --out")
    out = Path(args.out).expanduser()
    require_free(out, args.overwrite)
    labels = None if args.labels is None else Path(args.labels).expanduser()
    own = {path.resolve() for path in (out, labels) if path is not None}
    paths = [path for path in find_sources(args.sources, FILE_NAMES).paths if path.resolve() not in own]
    plan = CurvesPlan(
        paths=paths,
        out=out,
        reading=Reading(dict(args.column), dict(args.label), args.band, args.assume_error, args.unit),
        labels=labels,
        labels_id=args.labels_id,
        missing=tuple(args.missing),
        shortest_period=args.periods,
        statistics=args.statistics,
    )
    result = ingest_light_curves(plan)
    _print(plan, result)
    if args.summary:
        Path(args.summary).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(args.summary), {"out": str(out), **result.as_dict()})
    return 0


def _print(plan: CurvesPlan, result: CurvesResult) -> None:
    from hpctrain.ingest.tally import lines_by_reason
    from hpctrain.kinds.light_curves.statistics import PREFIX

    bands = ", ".join(f"{name} {count:,}" for name, count in result.points_of_band.items())
    few, median, many = result.lengths
    print(f"{plan.out}: {result.num_curves:,} light curves of {result.num_points:,} points")
    print(f"  bands    {bands}; in a profile: bands: [{', '.join(result.points_of_band)}]")
    print(f"  points   {few} to {many:,} per curve, median {median}")
    print(f"  read     {result.num_read:,} observations in {_files(result.num_files)} ({result.seconds:.1f} s)")
    print(f"  dropped  {sum(result.dropped.values()):,}")
    for reason, count in result.dropped.most_common():
        print(f"    {count:6d}  {reason}")
    if result.num_empty:
        print(f"  note     {result.num_empty:,} objects without a usable observation are left out")
    for note in result.notes:
        print(f"  note     {note}")
    ours = [name for name in result.columns if name.startswith(PREFIX)]
    labels = [f"{name} {count:,}" for name, count in result.columns.items() if name not in ours]
    print(f"  columns  {', '.join(labels + ([f'{len(ours)} statistics'] if ours else []))}")
    if result.failed_files:
        print(f"could not be read: {_files(len(result.failed_files))}", file=sys.stderr)
        for line in lines_by_reason(result.failed_files)[:MOST_NAMED]:
            print(f"  {line}", file=sys.stderr)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _column(text: str) -> tuple[str, str]:
    from hpctrain.ingest.light_curves.observations import ROLES

    ours, _, theirs = text.partition("=")
    if ours not in ROLES or not theirs:
        raise argparse.ArgumentTypeError(f"'{text}': write OURS=THEIRS, such as time=MJD; OURS is {', '.join(ROLES)}")
    return ours, theirs


def _label(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    theirs = theirs if equals else ours
    if not _WORD.fullmatch(ours) or not theirs:
        raise argparse.ArgumentTypeError(
            f"'{text}': write NAME or OURS=THEIRS; OURS is a word of letters, digits and _"
        )
    return ours, theirs
