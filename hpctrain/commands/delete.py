"""Delete a run for ever, unless it is active or a registered version was made from it.

hpctrain delete RUN          after showing its path and asking
hpctrain delete RUN --yes    without asking, for scripts

If there is a registry, its audit trail records the deletion.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed, progress_line
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.launch.status import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain delete``."""
    parser.add_argument("run_name", metavar="RUN", help="path, run id or job id; a name if only one run has it")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--registry", type=Path, metavar="DIR", help="folder of the registry (default: ./registry)")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Delete one run."""
    from hpctrain.registry.delete import delete_run, require_unused
    from hpctrain.registry.folder import registry_at
    from hpctrain.rundir import runs_called

    found = find_run(arguments.run_name, arguments.runs_dir)
    if found.name == arguments.run_name and len(runs_called(found.name, arguments.runs_dir)) > 1:
        raise _wrong(arguments.run_name, "several runs have this name; give the run id of one (hpctrain list)")
    status = describe(found)
    if status.is_active:
        raise _wrong(str(found.path), f"is active ({progress_line(status)}); cancel it first: hpctrain cancel")
    registry = registry_at(arguments.registry, arguments.runs_dir)
    require_unused(found, registry)
    if not arguments.yes and not _confirmed(found.path):
        print("nothing was deleted")
        return 0
    delete_run(found, registry)
    print(f"deleted {found.path}")
    return 0


def _wrong(where: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(where, message)])


def _confirmed(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise _wrong("--yes", "is needed where nobody can be asked")
    print(f"delete {as_typed(path)} for ever? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
