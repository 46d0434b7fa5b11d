"""Keep an index of runs, studies, pipelines and the registry in SQL, for questions over thousands of runs.

hpctrain index update     read what has changed on the disk since the last time
hpctrain index rebuild    make the index again from the disk
hpctrain index status     where it is, and what it holds
hpctrain index page       write one HTML page of all runs, to search, sort and compare them in a browser

It is the file index.sqlite beside the folder of runs, or what --index or the variable HPCTRAIN_INDEX names: another
file, or postgresql://USER@HOST/DATABASE. A password belongs into ~/.pgpass or the environment. Runs never wait for it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.commands.argument_types import positive
from hpctrain.launch.runs import DEFAULT_RUNS_DIR

if TYPE_CHECKING:
    from hpctrain.index.database import Database
    from hpctrain.index.units import Place
    from hpctrain.index.update import Updated

UPDATE, REBUILD, STATUS, PAGE = "update", "rebuild", "status", "page"
MOST_RUNS = 10_000
PAGE_FILE = "index.html"
_MOST_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain index``."""
    parser.add_argument("action", choices=(UPDATE, REBUILD, STATUS, PAGE), help="what to do")
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="page: file (default: index.html in the folder of runs)"
    )
    parser.add_argument("--last", type=positive, default=MOST_RUNS, help=f"page: number of runs (default: {MOST_RUNS})")
    parser.add_argument("--reports", action="store_true", help="page: write the reports of runs that have none first")
    parser.add_argument("--no-update", action="store_true", help="page: take the index as it is")
    parser.add_argument("--open", action="store_true", help="page: open it in a browser")


def add_places(parser: argparse.ArgumentParser, with_runs: bool = True) -> None:
    """Declare what says where the index and the folders in it are."""
    if with_runs:
        parser.add_argument(
            "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
        )
    parser.add_argument("--index", metavar="FILE|URL", help="the index (default: index.sqlite beside the runs)")
    parser.add_argument("--pipelines", type=Path, metavar="DIR", help="folder of pipelines (default: beside the runs)")
    parser.add_argument(
        "--registry", type=Path, metavar="DIR", help="folder of the registry (default: beside the runs)"
    )


def places_of(arguments: argparse.Namespace) -> tuple[Database, list[Place]]:
    """Return the index and the folders that the command line names."""
    from hpctrain.index.database import database_at
    from hpctrain.index.units import Place
    from hpctrain.registry.folder import registry_at

    runs = arguments.runs_dir.expanduser().absolute()
    pipelines = (arguments.pipelines or runs.parent / "pipelines").expanduser().absolute()
    registry = registry_at(arguments.registry, runs)
    database = database_at(arguments.index, runs)
    return database, [Place("runs", runs), Place("pipelines", pipelines), Place("registry", registry.path)]


def run(arguments: argparse.Namespace) -> int:
    """Update or make the index, or say what it holds."""
    database, places = places_of(arguments)
    if arguments.action == STATUS:
        return _status(database, arguments.json)
    if arguments.action == PAGE:
        return _page(database, places, arguments)
    from hpctrain.index.update import rebuild, update

    done = (update if arguments.action == UPDATE else rebuild)(database, places)
    if arguments.json:
        print(json.dumps({"index": database.name, **vars(done)}, indent=2))
    else:
        print(f"{database.name}: {done.read:,} read, {done.unchanged:,} unchanged, {done.removed:,} removed")
    print_failures(done)
    return 0


def print_failures(done: Updated) -> None:
    """Print what could not be read, a line each."""
    print_lines("not read", done.failed)


def print_lines(what: str, failed: list[str]) -> None:
    """Print the first of some failures to stderr, a line each."""
    for line in failed[:_MOST_FAILURES]:
        print(f"hpctrain: {what}: {line}", file=sys.stderr)
    if (more := len(failed) - _MOST_FAILURES) > 0:
        print(f"hpctrain: {what}: {more} more", file=sys.stderr)


def _page(database: Database, places: list[Place], arguments: argparse.Namespace) -> int:
    """Write the page of all runs and print its path."""
    from hpctrain.index.page.gather import gather
    from hpctrain.index.page.page import write_page
    from hpctrain.index.page.reports import write_missing

    if not arguments.no_update:
        from hpctrain.index.update import update

        print_failures(update(database, places))
    now = time.time()
    with database.reading() as connection:
        found = gather(connection, places, arguments.last, now)
    failed: list[str] = []
    if arguments.reports:
        found, failed = write_missing(found)
    runs = places[0].path
    path = write_page(found, runs, arguments.out or runs / PAGE_FILE, now)
    print(
        json.dumps({"page": str(path), "runs": len(found.runs), "failed": failed}, indent=2) if arguments.json else path
    )
    print_lines("report not written", failed)
    if arguments.open:
        webbrowser.open(path.as_uri())
    return 0


def _counted(kind: str, number: int) -> str:
    many = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"{number:,} {kind if number == 1 else many}"


def _status(database: Database, as_json: bool) -> int:
    from hpctrain.index.status import contents_of

    found: dict[str, Any] = {"index": database.name, **contents_of(database)}
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    size = f", {found['bytes'] / 1e6:.1f} MB" if found["bytes"] is not None else ""
    print(f"{database.name}{size}")
    for place in found["places"]:
        print(f"  {place['place']}: " + ", ".join(_counted(kind, number) for kind, number in place["units"].items()))
    return 0
