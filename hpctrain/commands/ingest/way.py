"""What each way to read spectra (a survey, a kind of file) tells the command: its options, and what it reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Prepared:
    """What one call of the command reads.

    Parameters
    ----------
    reader : Reader
        Reads one file; see :mod:`hpctrain.ingest.process`.
    paths : list of Path
        Files, in the order of the output.
    skipped : dict of str
        Files that are not read, and why.
    ids_by_position : bool
        Spectra at one place on the sky get one target id.
    only_preview : bool
        The command has printed what it would read, and stops.
    flux_unit : str
        Of the output; empty for 1e-17 erg s-1 cm-2 AA-1.
    meanings : dict of (str, str)
        Unit and description of columns that are carried along.
    """

    reader: Any
    paths: list[Path]
    skipped: dict[str, str]
    ids_by_position: bool = False
    only_preview: bool = False
    flux_unit: str = ""
    meanings: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """One subcommand of ``hpctrain ingest``.

    Parameters
    ----------
    text : str
        Its line of help.
    grid : str
        Default of ``--grid``.
    add_options : callable
        Adds the options that only this way has to a parser.
    prepare : callable
        Finds the files and makes the reader, from the parsed options.
    many_files : int, optional
        Smallest number of files for which several processes are faster; starting them takes 1 to 2 s.
    joins_redshifts : bool
        Whether ``--redshifts`` may name tables.
    """

    text: str
    grid: str
    add_options: Callable[[argparse.ArgumentParser], None]
    prepare: Callable[[argparse.Namespace], Prepared]
    many_files: int | None = None
    joins_redshifts: bool = False
