"""``hpctrain ingest fits``, ``hdf5``, ``table`` and ``any``: spectra of any file by a mapping, with a preview."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from typing import TYPE_CHECKING, Any

from hpctrain.commands.argument_types import positive_number
from hpctrain.commands.ingest.way import Prepared, Way

if TYPE_CHECKING:
    from hpctrain.ingest.mapped.mapping import Mapping
    from hpctrain.ingest.mapped.preview import Preview

TEXTS = {
    "lamost": "LAMOST: spec-*.fits, images of five rows or tables of one row",
    "fits": "any FITS files: tables or images, one spectrum per file or many; --preview shows what is in them",
    "hdf5": "any HDF5 files with arrays of flux, wavelength and errors; --preview shows what is in them",
    "table": "csv, ECSV, VOTable, columns of text, npz, SNID templates (.lnw)",
    "any": "all formats that specutils reads (pip install 'hpctrain[specutils]')",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _add_options(kind: str, parser: argparse.ArgumentParser) -> None:
    add_mapping_options(parser)
    if kind == "fits":
        parser.add_argument("--hdu", default="", help="HDU whose columns and keywords come first, by number or name")
    if kind == "any":
        parser.add_argument(
            "--loader", default="", metavar="NAME", help="loader of specutils (default: specutils finds it)"
        )
        parser.add_argument(
            "--part", type=int, metavar="N", help="of several spectrum objects in a file, read only this, from 0"
        )


def add_mapping_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a mapping."""
    group = parser.add_argument_group("what is what in the files")
    group.add_argument(
        "--preview", action="store_true", help="show how the first files are understood and all they have, then stop"
    )
    group.add_argument(
        "--column",
        action="extend",
        nargs="+",
        type=_column,
        default=[],
        metavar="OURS=THEIRS",
        help="OURS is flux, wavelength, error, ivar or variance, mask (nonzero is bad), good (zero is bad), target_id, "
        "redshift, zwarn, spectype, ra, dec, mjd, or any other name, which carries a column along (teff=Teff); "
        "THEIRS is a name in the file (FITS: HDU:COLUMN, or the HDU of an image), NAME[k] for plane k of an image, "
        "header:KEYWORD, or none (mask=none)",
    )
    group.add_argument(
        "--value",
        action="extend",
        nargs="+",
        type=_value,
        default=[],
        metavar="OURS=VALUE",
        help="the same value for every spectrum, such as redshift=0",
    )
    _add_units(group)
    _add_errors(group)
    group.add_argument(
        "--missing",
        nargs="+",
        type=float,
        default=[],
        metavar="X",
        help="values of labels that mean 'not known': -9999",
    )
    group.add_argument(
        "--ids-by-position", action="store_true", help="spectra within 2 arcsec (ra, dec) get one target id"
    )


def _add_units(group: Any) -> None:
    group.add_argument(
        "--flux-unit", default="", metavar="UNIT", help="replaces that of the files; 'relative' for none"
    )
    group.add_argument(
        "--wavelength-unit", default="", metavar="UNIT", help="replaces that of the files: nm, um, AA, 'log10(AA)', Hz"
    )
    medium = group.add_mutually_exclusive_group()
    medium.add_argument("--air", action="store_true", help="wavelengths are in air; they are converted to vacuum")
    medium.add_argument("--vacuum", action="store_true", help="wavelengths are in vacuum, whatever the header says")
    group.add_argument(
        "--spectra-along",
        choices=("auto", "rows", "columns"),
        default="auto",
        help="a spectrum is a row or a column of a two-dimensional array (default: as long as the wavelengths)",
    )


def _add_errors(group: Any) -> None:
    errors = group.add_mutually_exclusive_group()
    errors.add_argument(
        "--assume-snr",
        type=positive_number,
        metavar="X",
        help="no errors in the files: median flux of each spectrum / X",
    )
    errors.add_argument(
        "--measure-noise", action="store_true", help="no errors in the files: measure them by differences of pixels"
    )


def _prepare(kind: str, args: argparse.Namespace) -> Prepared:
    """Print the preview of the first files, and return what is read if nothing speaks against it."""
    from pathlib import Path

    from hpctrain.errors import DataError
    from hpctrain.ingest.mapped.preview import preview_files
    from hpctrain.ingest.mapped.reader import MappedReader
    from hpctrain.ingest.mapped.stores.opening import FILE_NAMES
    from hpctrain.ingest.sources import find_sources

    sources = find_sources(args.sources, FILE_NAMES[kind])
    out = Path(args.out or "").expanduser().resolve()
    paths = [path for path in sources.paths if path.resolve() != out]
    mapping = mapping_of(args)
    if kind == "any":
        from hpctrain.ingest.mapped.stores.specutils import import_specutils

        import_specutils()
    preview = preview_files(kind, paths, mapping)
    _print_preview(preview, args.preview)
    if preview.problems:
        raise DataError(_listed("no file can be read in this way:", preview.problems))
    errors = [each.text for each in preview.suspicions if each.is_error]
    if errors and not args.preview:
        raise DataError(_listed("nothing was read, because this cannot be right:", errors))
    return Prepared(
        MappedReader(kind, mapping),
        paths,
        sources.skipped,
        ids_by_position=args.ids_by_position or kind == "lamost",
        only_preview=args.preview,
        flux_unit=preview.flux_unit,
        meanings=preview.meanings,
    )


def mapping_of(args: argparse.Namespace) -> Mapping:
    """Return the mapping that the options describe.

    Raises
    ------
    DataError
        An option is given twice with different values.
    """
    from hpctrain.errors import DataError
    from hpctrain.ingest.mapped.mapping import Mapping

    columns, values = dict(args.column), dict(args.value)
    twice = [name for name in columns if len({theirs for ours, theirs in args.column if ours == name}) > 1]
    twice += [name for name in values if name in columns]
    if twice:
        raise DataError(f"--column: {', '.join(twice)} given twice; one name of ours is one column of the file")
    medium = "air" if args.air else ("vacuum" if args.vacuum else "")
    return Mapping(
        columns=columns,
        values=values,
        flux_unit=args.flux_unit,
        wavelength_unit=args.wavelength_unit,
        medium=medium,
        hdu=getattr(args, "hdu", ""),
        along=args.spectra_along,
        assumed_snr=args.assume_snr,
        measure_noise=args.measure_noise,
        missing=tuple(args.missing),
        loader=getattr(args, "loader", ""),
        part=getattr(args, "part", None),
    )


def _listed(title: str, problems: list[str]) -> str:
    return "\n".join([title, *("  " + problem.replace("\n", "\n  ") for problem in problems)])


def _print_preview(preview: Preview, is_long: bool) -> None:
    for line in [*preview.lines, *(preview.offers if is_long else [])]:
        print(line)
    for suspicion in preview.suspicions:
        if not suspicion.is_error or is_long:
            print(f"warning: {suspicion.text}", file=sys.stderr)


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    theirs = theirs if equals else ours
    if not _NAME.fullmatch(ours) or not theirs:
        raise argparse.ArgumentTypeError(
            f"'{text}': write OURS=THEIRS, such as flux=FLUX or teff=Teff; OURS is a word of letters, digits and _"
        )
    return ours, theirs


def _value(text: str) -> tuple[str, object]:
    ours, equals, value = text.partition("=")
    pixel_roles = ("flux", "wavelength", "error", "ivar", "variance", "mask", "good")
    if not _NAME.fullmatch(ours) or not equals or ours in pixel_roles:
        raise argparse.ArgumentTypeError(f"'{text}': write OURS=VALUE, such as redshift=0 or spectype=STAR")
    for kind in (int, float):
        try:
            return ours, kind(value)
        except ValueError:
            continue
    return ours, value


def way(kind: str) -> Way:
    """Return one of the subcommands."""
    return Way(TEXTS[kind], "auto", functools.partial(_add_options, kind), functools.partial(_prepare, kind))
