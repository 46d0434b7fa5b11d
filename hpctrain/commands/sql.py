"""Ask the index a question in SQL. The statement can read the index and change nothing.

hpctrain sql "SELECT family, count(*), min(best) FROM run_list WHERE state = 'finished' GROUP BY family"
hpctrain sql --views                       the views and their columns
hpctrain sql --csv "SELECT ..." > runs.csv

The index is what 'hpctrain index update' has read last; --update reads first. '-' takes the statement from the standard
input.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from typing import TYPE_CHECKING

from hpctrain.commands.argument_types import positive_number
from hpctrain.commands.index import add_places, places_of, print_failures
from hpctrain.commands.tabulated import CSV, JSON, TABLE, write_rows
from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.index.database import Database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain sql``."""
    parser.add_argument("statement", nargs="?", metavar="SQL", help="one SELECT; - reads it from the standard input")
    add_places(parser)
    parser.add_argument("--update", action="store_true", help="bring the index up to date first")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--csv", dest="how", action="store_const", const=CSV, help="print CSV")
    how.add_argument("--json", dest="how", action="store_const", const=JSON, help="print a list of JSON objects")
    parser.add_argument("--timeout", type=positive_number, default=60.0, metavar="S", help="longest time [s] (60)")
    parser.add_argument("--views", action="store_true", help="print the views and their columns")


def run(arguments: argparse.Namespace) -> int:
    """Print the rows of a statement, or what there is to ask."""
    database, places = places_of(arguments)
    if arguments.views:
        _print_views(database, arguments.how)
        return 0
    if arguments.statement is None:
        message = 'give a statement, such as "SELECT * FROM run_list LIMIT 10", or --views'
        raise ProfileError("command line", [Problem("SQL", message)])
    from hpctrain.index.read_only import ask

    if arguments.update:
        from hpctrain.index.update import update

        print_failures(update(database, places))
    statement = sys.stdin.read() if arguments.statement == "-" else arguments.statement
    answer = ask(database, statement, arguments.timeout)
    columns = next(answer, ())
    write_rows(columns, itertools.chain(answer), arguments.how or TABLE)
    return 0


def _print_views(database: Database, how: str | None) -> None:
    from hpctrain.index.views import views

    found = views(database.dialect)
    if how == JSON:
        told = {view.name: {name: text for name, (_, text) in view.columns.items()} for view in found}
        print(json.dumps(told, indent=2))
        return
    for view in found:
        print(f"{view.name}: {view.about}")
        for name, (_, text) in view.columns.items():
            print(f"  {name:<14} {text}")
