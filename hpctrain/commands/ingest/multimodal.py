"""``hpctrain ingest multimodal``, and the option ``--column`` that ``hpctrain ingest parquet`` shares."""

from __future__ import annotations

import argparse

from hpctrain.commands.ingest.way import Prepared, Way


def add_column_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--column OURS=THEIRS`` for tables whose columns have unusual names."""
    parser.add_argument(
        "--column",
        action="append",
        type=_column,
        default=[],
        metavar="OURS=THEIRS",
        help="a column with an unusual name; OURS is flux, ivar, wavelength, mask, target_id, redshift, ...",
    )


def _prepare(args: argparse.Namespace) -> Prepared:
    from hpctrain.ingest import multimodal_universe
    from hpctrain.ingest.sources import find_sources

    sources = find_sources(args.sources, multimodal_universe.FILE_NAMES)
    return Prepared(multimodal_universe.MultimodalReader(dict(args.column)), sources.paths, sources.skipped)


def _column(text: str) -> tuple[str, str]:
    from hpctrain.ingest.table_columns import KNOWN_NAMES

    allowed = sorted({"flux", "ivar", "wavelength", "mask", *KNOWN_NAMES})
    ours, _, theirs = text.partition("=")
    if ours not in allowed or not theirs:
        raise argparse.ArgumentTypeError(f"'{text}': write OURS=THEIRS, with OURS one of {', '.join(allowed)}")
    return ours, theirs


WAY = Way("Multimodal Universe: <config>/healpix=*/*.hdf5", "auto", add_column_option, _prepare)
