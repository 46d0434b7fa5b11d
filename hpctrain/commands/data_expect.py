"""The actions ``expect`` and ``validate`` of ``hpctrain data``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpctrain.errors import EXIT_FINISHED, DataError, GateError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.terminal import console

EXPECT = """Propose what data must be like, from files that were good, as a YAML file to read and change.

    hpctrain data expect week*.h5 --out expectations.yaml

It holds the columns with their types and units, ranges, shares of missing values, numbers for "not known", classes,
the distribution of each column, repeated identifiers, the coverage of the sky, the wavelength grid, and the number of
objects. Several good files also say how much one may differ from the others.
"""
VALIDATE = """Check new data against a file of expectations, and for drift; exit with 7 if they do not meet it.

    hpctrain data validate new.h5 --against expectations.yaml --reference runs/photoz/20261126-120000 --out page.html

Without --reference drift is measured against the good data of the expectations; with it, against the data of a run or
a file. --out also writes data-validation.json beside the page.
"""


def add_expect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``expect``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="good files of one kind, or quoted globs")
    parser.add_argument("--out", type=Path, default=Path("expectations.yaml"), metavar="FILE", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def add_validate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``validate``."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="new files of one kind, or quoted globs")
    parser.add_argument("--against", type=Path, required=True, metavar="EXPECTATIONS.yaml", help="what is expected")
    parser.add_argument(
        "--reference", metavar="RUN|FILE", help="data to compare with: those of a run, a file, or registry:NAME@ALIAS"
    )
    parser.add_argument("--json", action="store_true", help="print all checks as JSON")
    parser.add_argument(
        "--out", type=Path, metavar="PAGE.html", help="page to write, and data-validation.json beside it"
    )


def expect(args: argparse.Namespace) -> int:
    """Propose expectations."""
    from hpctrain.expectations.look import look
    from hpctrain.expectations.propose import as_yaml, propose
    from hpctrain.expectations.sources import open_sources
    from hpctrain.rundir import write_atomic

    if args.out.exists() and not args.overwrite:
        problem = Problem("--out", f"{args.out} exists, and you may have changed it; --overwrite replaces it")
        raise ProfileError("command line", [problem])
    with _rows_read() as on_rows:
        looked = look(open_sources(args.files), on_rows=on_rows)
    found = propose(looked)
    _write(write_atomic, args.out, as_yaml(found))
    print(f"{args.out}: {len(found['columns']):,} columns of {looked.num_rows:,} objects ({found['kind']})")
    ids = found["ids"].get("column")
    sky = found.get("sky")
    print(f"  identifiers  {ids or 'none found; ids.column names them'}")
    print(f"  sky          {sky['ra']}, {sky['dec']}: nside {sky['nside']}" if sky else "  sky          none found")
    print(f"Read it, change what you know better, then: hpctrain data validate NEW --against {args.out}")
    return 0


def validate(args: argparse.Namespace) -> int:
    """Check new data."""
    from hpctrain.expectations import validate as checking
    from hpctrain.expectations.section import read_expectations
    from hpctrain.expectations.show import lines_of

    expected = read_expectations(args.against)
    reference = _reference(args.reference)
    with _rows_read() as on_rows:
        found = checking.validate(args.files, expected, args.against, reference, on_rows)
    if args.out is not None:
        from hpctrain.expectations.page import page_of
        from hpctrain.rundir import write_atomic, write_json

        _write(write_atomic, args.out, page_of(found))
        _write(write_json, args.out.parent / checking.FILE, found.as_dict())
    print(json.dumps(found.as_dict(), indent=2) if args.json else "\n".join(lines_of(found)))
    return GateError.exit_code if found.failed else EXIT_FINISHED


def _reference(text: str | None) -> str | None:
    """Return the run or file to compare with; None, with a note, for an alias that does not exist yet."""
    from hpctrain.registry.references import is_registered, model_at

    if text is None:
        return None
    if not is_registered(text):
        is_file = Path(text).exists() or any(letter in text for letter in "*?[")
        return text if is_file else str(find_run(text, Path(DEFAULT_RUNS_DIR)).path)
    from hpctrain.registry.aliases import current
    from hpctrain.registry.folder import registry_at
    from hpctrain.registry.names import CHAMPION, read_reference

    named, runs_dir = read_reference(text), Path(DEFAULT_RUNS_DIR)
    model, alias = registry_at(None, runs_dir).model(named.name), named.alias or CHAMPION
    if named.number is None and current(model, alias) is None:
        print(f"note: {named.name} has no {alias} yet; drift is measured against the good data of the expectations")
        return None
    return str(model_at(text, runs_dir))


def _write(write: Callable[[Path, Any], None], path: Path, content: Any) -> None:
    try:
        write(path, content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _rows_read() -> Iterator[Callable[[str, int], None] | None]:
    """Show on a terminal how many rows have been read."""
    if not sys.stderr.isatty():
        yield None
        return
    with console(sys.stderr).status("reading") as status:
        yield lambda name, rows: status.update(f"{name}: {rows:,} rows")
