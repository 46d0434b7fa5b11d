"""Print what runs have cost: hours of nodes, GPUs and cores, energy, CO2, money, losses to faults, idle GPUs.

hpctrain cost RUN                      each attempt and the sum, and what would have been cheaper
hpctrain cost STUDY                    each trial
hpctrain cost PIPELINE                 each stage
hpctrain cost --since 2026-11-01       all runs, studies and pipelines, attempts from that day on
hpctrain cost RUN --json               the same for programs

Prices, and the CO2 of a kilowatt-hour, come from the file of the site (prices, carbon_g_per_kwh).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from hpctrain.cost.show import lines_of_many, lines_of_run, run_as_json
from hpctrain.cost.spent import AttemptCost, RunCost, cost_of_run
from hpctrain.cost.sums import Cost, total
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, all_runs, find_run
from hpctrain.rundir import RunDir, is_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain cost``."""
    parser.add_argument(
        "what", nargs="*", metavar="RUN|STUDY|PIPELINE", help="path, name or id (default: the newest run)"
    )
    parser.add_argument("--since", type=_day, metavar="DATE", help="count attempts from this day on (2026-11-01)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--folder", type=Path, default=Path("pipelines"), metavar="DIR", help="folder of pipelines")


def run(arguments: argparse.Namespace) -> int:
    """Print the cost of each argument, or of everything since a day."""
    since = arguments.since
    names = arguments.what or ([] if since is not None else [None])
    if len(names) == 1 and (found := _one_run(names[0], arguments)) is not None:
        found = _from(found, since)
        print(json.dumps(run_as_json(found), indent=2) if arguments.json else "\n".join(lines_of_run(found)))
        return 0
    parts = [part for name in names for part in _parts(name, arguments)] if names else list(_everything(arguments))
    costs = {name: cost for name, cost in (_cost_of(name, part, since) for name, part in parts) if cost.attempts}
    if arguments.json:
        whole = total(costs.values()).to_json()
        print(json.dumps({"parts": {name: cost.to_json() for name, cost in costs.items()}, "total": whole}, indent=2))
    elif costs:
        print("\n".join(lines_of_many(costs, "run")))
    else:
        print("no attempt has begun" + (f" since {datetime.fromtimestamp(since):%Y-%m-%d}" if since else ""))
    return 0


Part = tuple[str, RunDir]


def _day(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day; write it as 2026-11-01") from None


def _one_run(name: str | None, arguments: argparse.Namespace) -> RunCost | None:
    """Return the cost of a run; None if the name is that of a study or of a pipeline."""
    if name is not None and _is_of_many(name, arguments):
        return None
    return cost_of_run(find_run(name, arguments.runs_dir))


def _is_of_many(name: str, arguments: argparse.Namespace) -> bool:
    from hpctrain.pipeline.folder import is_pipeline
    from hpctrain.search.folder import is_study

    path = Path(name)
    if path.is_dir():
        return is_study(path) or is_pipeline(path)
    return bool(_studies(name, arguments) or _pipelines(name, arguments))


def _parts(name: str | None, arguments: argparse.Namespace) -> list[Part]:
    """Return the runs of a study, the stages of a pipeline, or the run that a user means."""
    if name is None or not _is_of_many(name, arguments):
        found = find_run(name, arguments.runs_dir)
        return [(f"{found.name}/{found.run_id}", found)]
    if studies := _studies(name, arguments):
        return list(_of_study(studies[0]))
    return list(_of_pipeline(_pipelines(name, arguments)[0]))


def _studies(name: str, arguments: argparse.Namespace) -> list[Path]:
    from hpctrain.search.folder import all_studies, is_study

    if is_study(Path(name)):
        return [Path(name)]
    return [study.path for study in all_studies(arguments.runs_dir) if name in (study.id, study.name)]


def _pipelines(name: str, arguments: argparse.Namespace) -> list[Path]:
    from hpctrain.pipeline.folder import find_pipeline, is_pipeline

    if is_pipeline(Path(name)):
        return [Path(name)]
    names = {part for path in arguments.folder.glob("*/*/pipeline.yaml") for part in path.parts[-3:-1]}
    return [find_pipeline(name, arguments.folder).path] if name in names else []


def _of_study(study: Path) -> Iterator[Part]:
    from hpctrain.search.folder import FOLDS

    folders = [*study.glob("*/attempts"), *study.glob(f"{FOLDS}/*/attempts")]
    found = sorted((path.parent for path in folders if is_run(path.parent)), key=lambda path: (len(path.name), path))
    yield from ((f"{study.parent.name}/{study.name}/{path.relative_to(study)}", RunDir(path)) for path in found)


def _of_pipeline(pipeline: Path) -> Iterator[Part]:
    from hpctrain.pipeline.folder import PipelineDir

    opened = PipelineDir(pipeline)
    for stage in opened.section().stages:
        yield f"{opened.name}/{opened.id}/{stage.name}", opened.stage(stage.name)


def _everything(arguments: argparse.Namespace) -> Iterator[Part]:
    from hpctrain.search.folder import all_studies

    yield from ((f"{each.name}/{each.run_id}", each) for each in all_runs(arguments.runs_dir))
    for study in all_studies(arguments.runs_dir):
        yield from _of_study(study.path)
    for path in sorted(arguments.folder.glob("*/*/pipeline.yaml")):
        yield from _of_pipeline(path.parent)


def _cost_of(name: str, part: RunDir, since: float | None) -> tuple[str, Cost]:
    from hpctrain.pipeline.cost import cost_of_commands
    from hpctrain.pipeline.folder import StageDir

    if isinstance(part, StageDir) and (cost := cost_of_commands(part, since)) is not None:
        return name, cost
    if since is not None and not any(lease.get("started_at", 0.0) >= since for lease in part.read_attempts()):
        return name, Cost()
    return name, _from(cost_of_run(part), since).total


def _from(found: RunCost, since: float | None) -> RunCost:
    """Return the cost without the attempts that began before `since`."""

    def is_later(attempt: AttemptCost) -> bool:
        return since is None or attempt.started_at >= since

    return RunCost(
        found.run,
        list(filter(is_later, found.attempts)),
        found.site,
        found.start_s,
        found.save_s,
        found.save_interval_s,
        found.notes,
    )
