"""List the runs on disk, newest first, with the state, age and size of each.

hpctrain list --name 'sdss-*'            list runs whose name matches
hpctrain list --state running,pending    list runs in one of these states
hpctrain list --where "chi2 < 1.2 and family = spectral_vae" --sort chi2

With --where, --sort, --show or --index the answer comes from the index (hpctrain index --help), which is brought up to
date first. Names are metrics of evaluations (the value at the best one; also last.chi2, lowest.chi2, highest.chi2),
metrics of hpctrain validate (Z.nmad), keys of the profile (train.batch_size) and columns of the view run_list.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import time
from pathlib import Path

from hpctrain.commands.argument_types import positive
from hpctrain.commands.index import add_places, places_of, print_failures
from hpctrain.commands.tabulated import JSON, write_rows
from hpctrain.launch.present import RunOnDisk, as_json, print_table
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, newest_runs, read_job
from hpctrain.launch.status import describe_any
from hpctrain.rundir import RunDir
from hpctrain.states import MEANINGS
from hpctrain.words import format_short_duration

_STATES = tuple(MEANINGS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain list``."""
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--name", metavar="PATTERN", help="list only runs of this name; * matches anything")
    parser.add_argument("--state", type=_states, metavar="STATE", help=f"list only these: {', '.join(_STATES)}")
    parser.add_argument("--last", "--limit", type=positive, default=20, help="number of runs (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--where", metavar="CONDITION", help="list only runs that meet it, with trials and stages")
    parser.add_argument("--sort", metavar="NAMES", help="sort by these, such as 'chi2, train.seed desc'")
    parser.add_argument("--show", metavar="NAMES", help="show these, too, such as 'train.learning_rate, kwh'")
    parser.add_argument("--no-update", action="store_true", help="take the index as it is")
    add_places(parser, with_runs=False)


def run(arguments: argparse.Namespace) -> int:
    """Print a line per run."""
    if arguments.where or arguments.sort or arguments.show or arguments.index:
        return _from_index(arguments)
    queue = Queue()
    found: list[RunOnDisk] = []
    pattern = arguments.name or "*"
    for run_dir in newest_runs(arguments.runs_dir, lambda path: fnmatch.fnmatchcase(path.parent.name, pattern)):
        status = describe_any(run_dir, queue)
        if arguments.state and status.state not in arguments.state:
            continue
        found.append(RunOnDisk(status, _age_s(run_dir), _size_bytes(run_dir.path)))
        if len(found) == arguments.last:
            break
    if arguments.json:
        print(json.dumps([{**as_json(one.status), "age_s": one.age_s, "bytes": one.size} for one in found], indent=2))
    elif found:
        print_table(found)
    else:
        chosen = " of this name or state" if arguments.name or arguments.state else ""
        print(f"no runs{chosen} in {arguments.runs_dir.absolute()}")
    return 0


def _from_index(arguments: argparse.Namespace) -> int:
    from hpctrain.index.query import Question, find_runs

    database, places = places_of(arguments)
    if not arguments.no_update:
        from hpctrain.index.update import update

        print_failures(update(database, places))
    question = Question(
        arguments.where, arguments.sort, arguments.show, arguments.name, arguments.state, arguments.last
    )
    with database.reading() as connection:
        found = list(find_runs(connection, question))
    if arguments.json:
        write_rows(list(found[0]) if found else [], [list(each.values()) for each in found], JSON)
    elif found:
        columns = [name for name in found[0] if name != "run" or "run" in (arguments.show or "")]
        shown = [{**each, "age": _age_text(each["age"])} for each in found]
        write_rows(columns, [[each[name] for name in columns] for each in shown])
    else:
        print(f"no runs that meet the condition, of those that {database.name} knows")
    return 0


def _age_text(seconds: float | None) -> str | None:
    return None if seconds is None else format_short_duration(max(0.0, seconds))


def _states(text: str) -> list[str]:
    states = [state.strip() for state in text.split(",")]
    if wrong := [state for state in states if state not in _STATES]:
        raise argparse.ArgumentTypeError(f"'{wrong[0]}' is not a state; the states are {', '.join(_STATES)}")
    return states


def _age_s(run_dir: RunDir) -> float:
    """Return the seconds since the run was first submitted, or since its profile was written."""
    submissions = read_job(run_dir).get("submissions") or [{}]
    started = submissions[0].get("submitted_at") if isinstance(submissions[0], dict) else None
    if not isinstance(started, (int, float)):
        try:
            started = run_dir.path.stat().st_mtime
        except OSError:
            return 0.0
    return round(max(0.0, time.time() - started), 1)


def _size_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; skip unreadable entries, do not follow links."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(root, name)).st_size
            except OSError:  # removed meanwhile: a temporary file, an old checkpoint
                continue
    return size
