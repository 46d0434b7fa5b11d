"""``hpctrain ingest sdss``."""

from __future__ import annotations

import argparse

from hpctrain.commands.ingest.way import Prepared, Way


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mask-bits",
        type=_mask_bits,
        default="default",
        metavar="NAMES",
        help="bits of and_mask that mask a pixel: default, any, none, or names such as BRIGHTSKY,NODATA; "
        "`hpctrain docs ingest` explains the default set; + adds to it: +BRIGHTSKY",
    )


def _prepare(args: argparse.Namespace) -> Prepared:
    from hpctrain.ingest import sdss
    from hpctrain.ingest.sources import find_sources

    sources = find_sources(args.sources, sdss.FILE_NAMES, sdss.NOT_SPECTRA)
    return Prepared(sdss.SdssReader(args.mask_bits), sources.paths, sources.skipped, ids_by_position=True)


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


WAY = Way(
    "SDSS, BOSS, eBOSS: spec-PLATE-MJD-FIBER.fits (spec or spec-lite, plain or .gz)",
    "sdss",
    _add_options,
    _prepare,
    many_files=2000,
)
