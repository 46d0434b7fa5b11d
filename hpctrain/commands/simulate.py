"""Write realistic quasar and galaxy spectra.

The file has the same layout as a file of ``hpctrain ingest``, by default on DESI's grid of 7,781 pixels. Further
columns hold the truth: the true redshift, the signal to noise ratio, and a flag of unusual spectra. The same seed gives
the same spectra, and a larger file begins with the spectra of a smaller one. simulate writes the file in blocks, so any
size fits in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.terminal import console

SOURCE = "hpctrain simulate"
_OPTIONS = ("num_spectra", "num_pixels", "seed", "quasar_fraction", "snr_median")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain simulate``."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.h5", help="file to write")
    parser.add_argument("--num-spectra", type=int, required=True, metavar="N", help="number of spectra")
    parser.add_argument("--num-pixels", type=int, metavar="L", help="pixels from 3600 to 9824 AA (7781, as DESI)")
    parser.add_argument("--seed", type=int, metavar="N", help="random seed (1)")
    parser.add_argument(
        "--quasar-fraction", type=float, metavar="X", help="share of quasars; others are galaxies (0.5)"
    )
    parser.add_argument("--snr-median", type=float, metavar="X", help="median signal to noise per 0.8 AA pixel (4)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Simulate the spectra, and print the size of the file."""
    from pydantic import ValidationError

    from hpctrain.kinds.spectra.section import SimulateSection

    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    try:
        section = SimulateSection(**given)
    except ValidationError as error:
        problems = [
            Problem(f"--{str(entry['loc'][0]).replace('_', '-')}", f"{entry['msg']}, not {entry['input']!r}")
            for entry in error.errors()
        ]
        raise ProfileError(SOURCE, problems) from None
    from hpctrain.kinds.spectra.simulate import simulate

    start = time.monotonic()
    with _progress(section.num_spectra) as on_rows:
        simulate(args.out, section, overwrite=args.overwrite, on_rows=on_rows)
    seconds = time.monotonic() - start
    size_gb = args.out.stat().st_size / 1e9
    print(f"{args.out}: {section.num_spectra:,} spectra, {size_gb:.2f} GB in {seconds:.0f} s")
    return 0


@contextlib.contextmanager
def _progress(num_spectra: int) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("spectra"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task("simulating", total=num_spectra)
        yield lambda count: progress.update(task, advance=count)
