"""Hand over features or latents of objects to a feature store.

hpctrain features feast latents.h5 --out store                     the catalogue of hpctrain encode
hpctrain features feast colours.h5 --out store --timestamp MJD     a table with a row per object and epoch
hpctrain features feast week-*.h5 --out store --overwrite          several tables with the same columns

feast writes a Feast repository: feature_store.yaml, features.py with an entity, a feature view and a feature service,
and the values as Parquet. It needs pyarrow (hpctrain[parquet]) and no Feast. Tables are HDF5, FITS, CSV, text or
Parquet; vectors such as LATENT_VEC become arrays.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
from pathlib import Path

from hpctrain.errors import Problem, ProfileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain features``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    feast = actions.add_parser("feast", help="write a Feast repository", description=__doc__)
    feast.formatter_class = argparse.RawDescriptionHelpFormatter
    feast.add_argument("files", nargs="+", type=Path, metavar="FILE", help="tables with the same columns")
    feast.add_argument("--out", "-o", required=True, type=Path, metavar="DIR", help="folder of the repository")
    feast.add_argument("--view", metavar="NAME", help="name of the feature view (default: that of the first file)")
    feast.add_argument("--entity", default="object", metavar="NAME", help="name of the entity (default: object)")
    feast.add_argument("--id", metavar="COLUMN", help="identifiers of the objects (default: target_id and the like)")
    feast.add_argument("--columns", nargs="+", metavar="COLUMN", help="columns that become features (default: all)")
    feast.add_argument("--timestamp", metavar="COLUMN", help="when the values of a row were true")
    feast.add_argument("--time-format", choices=("mjd", "jd", "unix", "iso"), help="how its times are written")
    feast.add_argument(
        "--at", metavar="TIME", help="time of all rows, if there is no such column (default: that of the file)"
    )
    feast.add_argument("--ttl", type=float, default=0.0, metavar="DAYS", help="age at which values expire (never)")
    feast.add_argument("--overwrite", action="store_true", help="replace the files of an earlier call")


def run(arguments: argparse.Namespace) -> int:
    """Write a Feast repository and say what is in it."""
    from hpctrain.features.feast import write_repository
    from hpctrain.features.source import Wanted, view_name

    view = arguments.view or view_name(arguments.files[0])
    at = _checked(arguments, view)
    wanted = Wanted(arguments.id, arguments.columns, arguments.timestamp, arguments.time_format, at)
    written = write_repository(
        arguments.files,
        arguments.out,
        wanted,
        view=view,
        entity=arguments.entity,
        ttl_days=arguments.ttl,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.out}: feature view {view}: {len(written.features)} features, {written.num_rows:,} rows")
    print(f"  times {_shown(written.first)} to {_shown(written.last)}, UTC{_where_from(arguments)}")
    if written.num_undated:
        print(f"  left out: {written.num_undated:,} rows without a time")
    if written.num_repeated:
        twice = "rows of an object at a time that it has already; Feast takes any one of them"
        print(f"  repeated: {written.num_repeated:,} {twice}")
    print(f"  next: cd {shlex.quote(str(arguments.out))} && feast apply")
    return 0


def _checked(arguments: argparse.Namespace, view: str) -> int | None:
    """Return ``--at`` as microseconds since 1970.

    Raises
    ------
    ProfileError
        Options are wrong; the message lists all problems.
    """
    from hpctrain.features.times import moment

    problems = [
        Problem(option, f"'{name}' is not a name of letters, digits and single underscores")
        for option, name in (("--view", view), ("--entity", arguments.entity))
        if not name.isidentifier() or not name.isascii() or "__" in name
    ]
    if view == arguments.entity:
        problems.append(Problem("--entity", f"'{view}' is the name of the feature view, too; give another one"))
    problems += [Problem("FILE", f"'{path}' does not exist") for path in arguments.files if not path.is_file()]
    if not 0 <= arguments.ttl < 1e6:
        problems.append(Problem("--ttl", "must be 0 (never) or a number of days below 1,000,000"))
    if arguments.at is not None and arguments.timestamp is not None:
        problems.append(Problem("--at", "has no meaning with --timestamp"))
    if arguments.time_format is not None and arguments.timestamp is None:
        problems.append(Problem("--time-format", "needs --timestamp"))
    at = None
    if arguments.at is not None:
        try:
            at = moment(arguments.at)
        except ValueError as error:
            problems.append(Problem("--at", str(error)))
    if problems:
        raise ProfileError("command line", problems)
    return at


def _shown(microseconds: int) -> str:
    zero = datetime.datetime(1970, 1, 1)
    return f"{zero + datetime.timedelta(microseconds=microseconds):%Y-%m-%d %H:%M:%S}"


def _where_from(arguments: argparse.Namespace) -> str:
    if arguments.timestamp is not None:
        return f" (column {arguments.timestamp})"
    return (
        " (--at)"
        if arguments.at is not None
        else " (when the files were last changed; --timestamp or --at sets others)"
    )
