"""Free disk space: show what can go from runs, pipelines and this machine, ask, then remove it.

hpctrain clean                            of all runs in ./runs: old checkpoints, damaged ones, repeated records, caches
hpctrain clean RUN...                     only of these runs
hpctrain clean --dry-run                  only show what could go, and what it frees
hpctrain clean --what tensorboard,failed  exactly these kinds; the last four below go only if you name them

It keeps what somebody needs: active runs, runs of registered versions, trials of studies, stages of pipelines, the
newest and the best checkpoint, and every checkpoint of a run that a profile, study or pipeline names.
The audit trail of the registry, if there is one, records what was removed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, all_runs, find_run
from hpctrain.words import format_bytes

if TYPE_CHECKING:
    from hpctrain.registry.folder import Registry
    from hpctrain.registry.leftovers import Kept, Leftover
    from hpctrain.registry.needed import Needs
    from hpctrain.rundir import RunDir

DEFAULT_KINDS = ("checkpoints", "rejected", "superseded", "work", "staged", "cache")
ASKED_KINDS = ("tensorboard", "figures", "store", "failed")
KINDS = (*DEFAULT_KINDS, *ASKED_KINDS)
_MOST_KEPT = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain clean``."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="path, name, run id or job id (default: all runs)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--pipelines", type=Path, metavar="DIR", help="folder of pipelines (default: beside the runs)")
    parser.add_argument(
        "--registry", type=Path, metavar="DIR", help="folder of the registry (default: beside the runs)"
    )
    parser.add_argument("--what", type=_kinds, default=DEFAULT_KINDS, metavar="KINDS", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--dry-run", action="store_true", help="only show what could go")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print what could go as JSON; removes only with --yes")


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(","))
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"'{wrong[0]}' is not one of {', '.join(KINDS)}")
    return kinds


def run(arguments: argparse.Namespace) -> int:
    """Show what can go, ask, and remove it."""
    from hpctrain.registry.folder import registry_at
    from hpctrain.registry.needed import read_needs

    runs_dir = arguments.runs_dir.expanduser().absolute()
    registry = registry_at(arguments.registry, runs_dir)
    pipelines = (arguments.pipelines or runs_dir.parent / "pipelines").expanduser().absolute()
    chosen = [find_run(text, runs_dir) for text in arguments.runs] or all_runs(runs_dir)
    needs = read_needs(runs_dir, pipelines, registry)
    found, kept = _find(chosen, needs, pipelines if not arguments.runs else None)
    wanted = [one for one in found if one.kind in arguments.what]
    others = [one for one in found if one.kind not in arguments.what]
    if arguments.json:
        print(json.dumps(_as_json(wanted, kept), indent=2))
    else:
        _show(wanted, others, kept)
    if not wanted or arguments.dry_run or (arguments.json and not arguments.yes):
        return 0
    if not arguments.yes and not _confirmed(sum(one.size for one in wanted)):
        print("nothing was removed")
        return 0
    return _remove(wanted, needs, registry, quiet=arguments.json)


def _find(runs: Sequence[RunDir], needs: Needs, pipelines: Path | None) -> tuple[list[Leftover], list[Kept]]:
    """Return what can go, and the runs of which something stays; with `pipelines`, of them and this machine too."""
    from hpctrain.launch.queue import Queue
    from hpctrain.registry.leftovers import leftovers_of

    found, kept = [], []
    queue = Queue()
    for run_dir in runs:
        more, why = leftovers_of(run_dir, needs, queue)
        found += more
        kept += [] if why is None else [why]
    if pipelines is not None:
        from hpctrain.pipeline.leftovers import leftovers_of_pipelines
        from hpctrain.registry.leftovers_here import leftovers_here

        found += [*leftovers_of_pipelines(pipelines, needs), *leftovers_here(runs)]
    return found, kept


def _as_json(found: Sequence[Leftover], kept: Sequence[Kept]) -> dict[str, list[dict[str, object]]]:
    return {
        "can_go": [
            {"kind": one.kind, "of": str(one.owner), "bytes": one.size, "paths": list(map(str, one.paths))}
            for one in found
        ],
        "kept": [{"run": str(one.run), "why": one.why} for one in kept],
    }


def _show(wanted: Sequence[Leftover], others: Sequence[Leftover], kept: Sequence[Kept]) -> None:
    from hpctrain.pipeline import leftovers as of_pipelines
    from hpctrain.registry import leftovers as of_runs
    from hpctrain.registry import leftovers_here as here

    meanings = {**of_runs.MEANINGS, **of_pipelines.MEANINGS, **here.MEANINGS}
    for kind in KINDS:
        of_kind = [one for one in wanted if one.kind == kind]
        if of_kind:
            print(f"{kind}: {meanings[kind]}")
        for one in sorted(of_kind, key=lambda one: -one.size):
            number = f"  ({len(one.paths)})" if len(one.paths) > 1 else ""
            print(f"  {format_bytes(one.size):>8}  {as_typed(one.owner)}{number}")
    for one in kept[:_MOST_KEPT]:
        print(f"kept: {as_typed(one.run)}: {one.why}")
    if len(kept) > _MOST_KEPT:
        print(f"kept: {len(kept) - _MOST_KEPT} more (--json names them)")
    total = sum(one.size for one in wanted)
    print(f"{format_bytes(total)} can go" if wanted else "nothing can go")
    for kind in KINDS:
        if size := sum(one.size for one in others if one.kind == kind):
            print(f"also {format_bytes(size)} with --what {kind}: {meanings[kind]}")


def _confirmed(size: int) -> bool:
    if not sys.stdin.isatty():
        raise ProfileError("command line", [Problem("--yes", "is needed where nobody can be asked")])
    print(f"remove these {format_bytes(size)} for ever? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(found: Sequence[Leftover], needs: Needs, registry: Registry, quiet: bool) -> int:
    from hpctrain.pipeline import leftovers as of_pipelines
    from hpctrain.registry import leftovers as of_runs
    from hpctrain.registry import leftovers_here as here

    freed = 0
    for one in found:
        why = None
        if one.kind in of_runs.MEANINGS:
            why = of_runs.remove(one, needs, registry)
        elif one.kind in of_pipelines.MEANINGS:
            why = of_pipelines.remove_of_pipeline(one)
        else:
            here.remove_here(one)
        if why is None:
            freed += one.size
        else:
            print(f"hpctrain: kept: {as_typed(one.owner)}: {why}", file=sys.stderr)
    if not quiet:
        print(f"removed {format_bytes(freed)}")
    return 0
