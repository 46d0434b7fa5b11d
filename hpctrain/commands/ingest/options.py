"""Options that all ways to read spectra share, and the types of their values."""

from __future__ import annotations

import argparse
from typing import Any

from hpctrain.commands.argument_types import positive


def add_common(parser: argparse.ArgumentParser, grid: str) -> None:
    """Add the sources, the output, the grid, and the cuts; `grid` is the default of ``--grid``."""
    parser.add_argument("sources", nargs="+", metavar="SRC", help="files, folders (searched to any depth) or globs")
    parser.add_argument("--out", metavar="FILE.h5", help="HDF5 file to write")
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
    _add_cuts(parser)
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="number of reading processes, each of which holds a whole file in memory; the output is the same for any "
        "number (default: 1; sdss with 2,000 files or more: all cores up to 8)",
    )
    parser.add_argument("--summary", metavar="FILE.json", help="also write the summary as JSON")


def _add_cuts(parser: argparse.ArgumentParser) -> None:
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


def _grid(text: str) -> Any:
    from hpctrain.errors import DataError
    from hpctrain.ingest.grid import parse_grid

    try:
        return parse_grid(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return number
