"""Keep an index of runs, studies, pipelines and the registry in SQL, for questions over thousands of runs.

hpctrain index update     read what has changed on the disk since the last time
hpctrain index rebuild    make the index again from the disk
hpctrain index status     where it is, and what it holds

It is the file index.sqlite beside the folder of runs, or what --index or the variable HPCTRAIN_INDEX names: another
file, or postgresql://USER@HOST/DATABASE. A password belongs into ~/.pgpass or the environment. Runs never wait for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.launch.runs import DEFAULT_RUNS_DIR

if TYPE_CHECKING:
    from hpctrain.index.database import Database
    from hpctrain.index.units import Place
    from hpctrain.index.update import Updated

UPDATE, REBUILD, STATUS = "update", "rebuild", "status"
_MOST_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain index``."""
    parser.add_argument("action", choices=(UPDATE, REBUILD, STATUS), help="what to do")
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


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
    for line in done.failed[:_MOST_FAILURES]:
        print(f"hpctrain: not read: {line}", file=sys.stderr)
    if (more := len(done.failed) - _MOST_FAILURES) > 0:
        print(f"hpctrain: and {more} more could not be read", file=sys.stderr)


def _status(database: Database, as_json: bool) -> int:
    from hpctrain.index.status import contents_of

    found: dict[str, Any] = {"index": database.name, **contents_of(database)}
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    size = f", {found['bytes'] / 1e6:.1f} MB" if found["bytes"] is not None else ""
    print(f"{database.name}{size}")
    for place in found["places"]:
        print(f"  {place['place']}: " + ", ".join(f"{number:,} {kind}" for kind, number in place["units"].items()))
    return 0
