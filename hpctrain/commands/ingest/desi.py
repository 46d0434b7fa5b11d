"""``hpctrain ingest desi``."""

from __future__ import annotations

import argparse
from typing import Any

from hpctrain.commands.ingest.way import Prepared, Way


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exposures",
        choices=("coadd", "rows"),
        default="coadd",
        help="several rows of one target in a file: merge them into one coadd (default), or keep each row",
    )


def _prepare(args: argparse.Namespace) -> Prepared:
    from hpctrain.ingest import desi
    from hpctrain.ingest.redshifts import FILE_NAMES, read_redshifts
    from hpctrain.ingest.sources import find_sources

    tables = find_sources(args.redshifts, FILE_NAMES).paths if args.redshifts else []
    table = read_redshifts(tables) if tables else None
    sources = find_sources(args.sources, desi.FILE_NAMES, desi.NOT_SPECTRA)
    _prefer_coadds(sources)
    return Prepared(desi.DesiReader(args.exposures, table), sources.paths, sources.skipped)


def _prefer_coadds(sources: Any) -> None:
    """Skip spectra-X if the same folder contains coadd-X: both contain the same photons."""
    coadds = {path.with_name(path.name.removeprefix("coadd-").removesuffix(".gz")) for path in sources.paths}
    for path in list(sources.paths):
        unit = path.with_name(path.name.removeprefix("spectra-").removesuffix(".gz"))
        if path.name.startswith("spectra-") and unit in coadds:
            sources.paths.remove(path)
            sources.skipped[str(path)] = "the coadd of the same exposures is read instead"


WAY = Way(
    "DESI: coadd-*.fits and spectra-*.fits (plain or .gz), arms merged, redrock redshifts joined",
    "desi",
    _add_options,
    _prepare,
    joins_redshifts=True,
)
