"""List the most unusual spectra of a catalogue, or of the spectra that a run held out.

hpctrain anomalies latents.h5                        a table on the terminal
hpctrain anomalies latents.h5 --out odd.ecsv         position, ids, score, reason and web pages; also .csv and .fits
hpctrain anomalies RUN --out odd.html                a page with the spectra and their reconstructions
hpctrain anomalies latents.h5 --data spectra.h5 --out odd.html
hpctrain anomalies latents.h5 --rated odd.ecsv --out next.ecsv

An object is listed if at most a share --false-alarm of ordinary objects scores as high. The table has an empty column
`interest`: fill in 0 (not interesting) to 5 for some objects, and give the table back with --rated. hpctrain then
predicts how interesting all other objects are, and lists first what is both unusual and interesting. Ratings are kept.

The web pages are links to the Legacy Survey, SkyServer and the survey's own page; hpctrain itself opens none of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.commands.argument_types import positive
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, path_or_run

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.families.spectral_vae.anomaly_catalogue import Catalogue, Chosen

SOURCE = "hpctrain anomalies"
PAGE = ".html"
_PRINTED = 20
_COLUMNS = ("rank", "target_id", "redshift", "class", "anomaly_score", "local_chi2", "latent_density", "reason")
_OF_RATED = ("predicted_interest", "priority", "interest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain anomalies``."""
    parser.add_argument("source", metavar="CATALOGUE|RUN", help="file of encode or infer; or path, name or id of a run")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--top", type=positive, default=50, metavar="N", help="list at most N objects (50)")
    parser.add_argument(
        "--false-alarm",
        type=_probability,
        default=0.01,
        metavar="P",
        help="largest probability that an ordinary object scores as high (0.01)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="table (.fits, .csv, .ecsv) or page (.html) to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--rated", type=Path, metavar="FILE", help="an earlier table with the column interest filled in"
    )
    parser.add_argument(
        "--data", nargs="+", metavar="FILE.h5", help="the spectra of the catalogue, to draw on the page"
    )
    parser.add_argument(
        "--model", metavar="RUN", help="model that draws them (default: the one that encoded the catalogue)"
    )


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; must be a number above 0 and at most 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Choose the objects, write or print them."""
    from hpctrain.families.spectral_vae.anomaly_catalogue import choose, read_scored
    from hpctrain.families.spectral_vae.anomaly_files import anomaly_columns, read_ratings, write_table

    _check_out(args)
    found = path_or_run(args.source, args.runs_dir)
    catalogue = read_scored(_catalogue_of(found))
    ratings = None if args.rated is None else read_ratings(args.rated)
    chosen = choose(catalogue, args.top, args.false_alarm, ratings)
    shown = catalogue.rows(chosen.rows)
    if args.out is not None and args.out.suffix == PAGE:
        _write_page(args, found, catalogue, chosen, shown)
    table = anomaly_columns(shown, chosen)
    if args.out is not None and args.out.suffix != PAGE:
        write_table(table, args.out)
    if args.out is None:
        _print(table)
    _print_summary(args, catalogue, chosen, ratings)
    return 0


def _catalogue_of(path: Path) -> Path:
    """Return the catalogue that a path means: the file itself, or that of the held-out spectra of a run."""
    from hpctrain.families.spectral_vae.shown_results import LATENTS
    from hpctrain.rundir import RunDir

    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such catalogue, and no run of this name, run id or job id")
        return path
    catalogue = RunDir(path).results / LATENTS
    if not catalogue.is_file():
        raise DataError(
            f"{catalogue}: not there; a run of the family spectral_vae writes it when it finishes. Write a catalogue "
            f"with: hpctrain encode {path} FILE.h5 --out latents.h5"
        )
    return catalogue


def _check_out(args: argparse.Namespace) -> None:
    """Refuse a file ``--out`` that cannot be written, and options without effect."""
    from hpctrain.families.spectral_vae.anomaly_files import FORMATS
    from hpctrain.samples.sink import require_free

    problems = []
    endings = (*FORMATS, PAGE)
    is_page = args.out is not None and args.out.suffix == PAGE
    if args.out is not None and args.out.suffix not in endings:
        ending = args.out.suffix or "no ending"
        problems.append(Problem("--out", f"found {ending!r}; the name must end with one of {', '.join(endings)}"))
    if args.out is not None and not args.out.absolute().parent.is_dir():
        problems.append(Problem("--out", f"{args.out.absolute().parent} is no directory; make it first"))
    if args.out is not None and args.out.resolve() in {Path(name).resolve() for name in _inputs(args)}:
        problems.append(Problem("--out", f"{args.out} is one of the input files; choose another name"))
    for name in ("data", "model"):
        if getattr(args, name) and not is_page:
            problems.append(Problem(f"--{name}", "only a page shows spectra; give --out FILE.html too"))
    if problems:
        raise ProfileError(SOURCE, problems)
    if args.out is not None:
        require_free(args.out, args.overwrite)


def _inputs(args: argparse.Namespace) -> list[str | Path]:
    return [args.source, *(args.data or ()), *([args.rated] if args.rated else ())]


def _write_page(args: argparse.Namespace, found: Path, catalogue: Catalogue, chosen: Chosen, shown: dict) -> None:
    """Write the page, with the spectra if they can be drawn."""
    from hpctrain.commands.anomaly_page import drawn_from_data, drawn_from_run, write_page

    if args.data:
        model = args.model or catalogue.attributes.get("model_weights") or catalogue.attributes.get("bundle")
        spectra, note = drawn_from_data(args.data, str(model), args.runs_dir, shown)
    else:
        spectra, note = drawn_from_run(found, shown)
    write_page(args.out, catalogue, chosen, shown, spectra, note)


def _print(table: Table) -> None:
    names = [name for name in (*_COLUMNS, *_OF_RATED) if name in table.colnames]
    names = names if "priority" in names else [name for name in names if name not in _OF_RATED]
    short = table[names][:_PRINTED]
    for name in names:
        if short[name].dtype.kind == "f":
            short[name].info.format = ".4f" if name == "redshift" else ".2f"
    print("\n".join(short.pformat(max_lines=-1, max_width=-1)) if len(table) else "no object is unusual enough")
    if len(table) > _PRINTED:
        print(f"... and {len(table) - _PRINTED} more; --out FILE.ecsv writes all")


def _print_summary(
    args: argparse.Namespace, catalogue: Catalogue, chosen: Chosen, ratings: dict[int, int] | None
) -> None:
    number = len(catalogue.columns["ANOMALY_SCORE"])
    print(
        f"{catalogue.path}: {chosen.num_unusual:,} of {number:,} objects with a false-alarm probability of at most "
        f"{args.false_alarm:g}, compared with {catalogue.attributes.get('anomaly_reference', 'each other')}"
    )
    if ratings is not None:
        missing = len(set(ratings) - set(catalogue.columns["target_id"].tolist()))
        rest = f"; {missing} of them are not in this catalogue" if missing else ""
        print(f"{args.rated}: {len(ratings)} rated objects{rest}")
    if args.out is not None:
        print(f"{args.out}: {len(chosen.rows)} objects")
