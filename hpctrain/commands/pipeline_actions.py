"""Actions on a pipeline that is there: its state, logs and page; to cancel it, and to go on with it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from hpctrain.access import enter
from hpctrain.errors import Problem, ProfileError
from hpctrain.pipeline.folder import PipelineDir, find_pipeline


def act(arguments: argparse.Namespace) -> int:
    """Do what ``arguments.what`` names; return the exit code."""
    if arguments.name is None:
        what = "FILE.yaml" if arguments.what == "schedule" else "NAME"
        message = f"which pipeline? hpctrain pipeline {arguments.what} {what}"
        raise ProfileError("command line", [Problem("", message)])
    if arguments.what == "schedule":
        return _schedule(arguments)
    pipeline = find_pipeline(arguments.name, arguments.folder)
    enter(pipeline.path)
    return _ACTIONS[arguments.what](pipeline, arguments)


def _schedule(arguments: argparse.Namespace) -> int:
    from hpctrain.pipeline.file import read_pipeline
    from hpctrain.pipeline.schedule import schedule_text

    file = Path(arguments.name)
    print(schedule_text(file, read_pipeline(file), arguments.way, arguments.every or "5m", Path.cwd()), end="")
    return 0


def _status(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.pipeline.describe import lines_of, states_of

    if arguments.json:
        print(json.dumps({"pipeline": str(pipeline.path), "stages": states_of(pipeline)}, indent=2))
    else:
        print("\n".join(lines_of(pipeline, arguments.why)))
    return 0


def _logs(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.launch.logs import follow as follow_run
    from hpctrain.pipeline.logs import follow, log_lines, stage_to_show
    from hpctrain.pipeline.section import TRAIN

    stage = stage_to_show(pipeline, arguments.stage)
    print(f"--- {stage.stage_name} ---", file=sys.stderr, flush=True)
    if arguments.follow and stage.section().does == TRAIN:
        follow_run(stage, 0, arguments.lines)
        return 0
    for piece in follow(stage) if arguments.follow else log_lines(stage, arguments.lines):
        sys.stdout.write(piece)
        sys.stdout.flush()
    return 0


def _cancel(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.pipeline.stop import cancel

    for line in cancel(pipeline):
        print(line)
    return 0


def _resume(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.commands.pipeline import go_through
    from hpctrain.pipeline.run import is_over

    if is_over(pipeline):
        print(f"{pipeline.path}: it is over; call the pipeline file to begin anew")
        return 0
    os.chdir(pipeline.read_record().get("cwd") or os.curdir)
    return go_through(pipeline)


def _graph(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.pipeline.describe import mermaid

    print(mermaid(pipeline))
    return 0


def _report(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.pipeline.page import write_page

    print(as_typed(write_page(pipeline, arguments.out)))
    return 0


def _clean(pipeline: PipelineDir, arguments: argparse.Namespace) -> int:
    from hpctrain.pipeline.run import only_one, remove_unfinished

    with only_one(pipeline):
        print(f"{remove_unfinished(pipeline)} folders removed")
    return 0


_ACTIONS = {
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
    "resume": _resume,
    "graph": _graph,
    "report": _report,
    "clean": _clean,
}
