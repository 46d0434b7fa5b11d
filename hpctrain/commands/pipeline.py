"""From new data to a registered model in stages: each is done once for the same inputs, commands and version.

hpctrain pipeline FILE.yaml                go through it: here, or one job per stage in the queue; go on after a failure
hpctrain pipeline FILE.yaml --dry-run      check it, and print the commands
hpctrain pipeline FILE.yaml --if-changed   do nothing unless a file from outside, or the pipeline, has changed
hpctrain pipeline status NAME [--why]      how far it is, and why each stage was done again
hpctrain pipeline logs NAME [STAGE] [-f]   what a stage has said: the one that runs or has failed, or STAGE
hpctrain pipeline cancel NAME              end it; a training saves first
hpctrain pipeline resume NAME              go on with it, as the same pipeline file would
hpctrain pipeline graph NAME               its stages and what they need, in the language Mermaid
hpctrain pipeline report NAME              its page: the stages as a picture and as a table
hpctrain pipeline clean NAME               remove what stages that failed have left
hpctrain pipeline schedule FILE.yaml       print what calls it again and again: for cron, scrontab or systemd
hpctrain pipeline emit PLATFORM FILE.yaml  write it for airflow, kubeflow, github or gitlab
hpctrain pipeline FILE.yaml --sample       go through it with the small inputs of its section sample
hpctrain pipeline FILE.yaml --stage NAME --id ID
                                           do one stage, for an orchestrator; exit code 75: its job waits or runs

Exit codes: 0 done, 7 a gate or the data failed, and those of hpctrain --help.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.access import enter
from hpctrain.commands.pipeline_emit import add_emit_arguments, run_emit
from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.pipeline.folder import PipelineDir

CRON, WAYS = "cron", ("cron", "scron", "systemd")
ACTIONS = ("status", "logs", "cancel", "resume", "graph", "report", "clean", "schedule", "emit")
EMIT = "emit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain pipeline``."""
    parser.add_argument("what", nargs="?", metavar="FILE.yaml|ACTION", help=f"pipeline file, or {', '.join(ACTIONS)}")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name, id or folder of a pipeline, for an action")
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="logs: name of a stage; emit: pipeline file")
    parser.add_argument("-f", "--follow", action="store_true", help="logs: keep printing until the stage ends")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="logs: print only the last N lines")
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster of the file")
    parser.add_argument("--dry-run", action="store_true", help="check, then print the commands of each stage")
    parser.add_argument(
        "--no-data", action="store_true", help="it runs elsewhere: do not look for files of data, nor for packages"
    )
    parser.add_argument("--if-changed", action="store_true", help="do nothing unless something has changed")
    parser.add_argument("--sample", action="store_true", help="go through it as its section sample changes it")
    parser.add_argument("--stage", dest="only", metavar="NAME", help="do this stage alone; needs --id")
    parser.add_argument("--id", metavar="ID", help="id of this time through, the same for all its stages")
    parser.add_argument("--for", dest="way", choices=WAYS, default=CRON, help="schedule: who calls it (cron)")
    parser.add_argument("--every", metavar="TIME", help="schedule, emit: 5m, 2h or 1d (schedule: 5m; emit: never)")
    parser.add_argument("--why", action="store_true", help="status: what has changed, and where the results are")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="report, emit: file to write (report.html there; the terminal)"
    )
    parser.add_argument("--json", action="store_true", help="status: print JSON")
    parser.add_argument("--folder", type=Path, default=Path("pipelines"), metavar="DIR", help="where to look for NAME")
    add_emit_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Go through a pipeline, or say how far one is."""
    _refuse_too_many(arguments)
    if arguments.what == EMIT:
        return run_emit(arguments)
    if arguments.what in ACTIONS:
        from hpctrain.commands.pipeline_actions import act

        return act(arguments)
    from hpctrain.commands.pipeline_options import check_options
    from hpctrain.pipeline.changes import has_changed, note_inputs
    from hpctrain.pipeline.file import read_pipeline
    from hpctrain.pipeline.run import open_pipeline

    section = read_pipeline(arguments.what, arguments.sample, not arguments.no_data)
    check_options(section, arguments.what, packages=not arguments.no_data)
    if arguments.dry_run:
        return _dry_run(section)
    if arguments.only is not None:
        from hpctrain.pipeline.one_stage import begin, do_one

        return do_one(begin(section, arguments.id, arguments.cluster), arguments.only, _say)
    if arguments.if_changed and not has_changed(section):
        print(f"{section.name}: nothing has changed since it was done")
        return 0
    pipeline = open_pipeline(section, arguments.cluster)
    enter(pipeline.path)
    note_inputs(pipeline)
    return go_through(pipeline)


def _refuse_too_many(arguments: argparse.Namespace) -> None:
    if arguments.what in ACTIONS and arguments.stage is not None and arguments.what not in ("logs", EMIT):
        message = f"'{arguments.stage}' is too much: hpctrain pipeline {arguments.what} NAME"
        raise ProfileError("command line", [Problem("", message)])
    if arguments.what is None or (arguments.what not in ACTIONS and arguments.name is not None):
        message = f"give a pipeline file (hpctrain pipeline weekly.yaml), or one of {', '.join(ACTIONS)} and a pipeline"
        raise ProfileError("command line", [Problem("", message)])
    if (arguments.only is None) != (arguments.id is None):
        raise ProfileError("command line", [Problem("--stage", "goes with --id, the name of this time through")])


def _say(line: str) -> None:
    print(line, flush=True)


def go_through(pipeline: PipelineDir) -> int:
    """Do the stages of a pipeline here, or submit their jobs; return the exit code."""
    from hpctrain.launch.present import as_typed
    from hpctrain.launch.targets import find_target
    from hpctrain.pipeline.progress import progress
    from hpctrain.pipeline.run import only_one, run_here, submit
    from hpctrain.pipeline.stop import ended_by_term

    print(f"pipeline  {as_typed(pipeline.path)}", flush=True)
    with only_one(pipeline):
        if not find_target(pipeline.read_record()["cluster"]).has_queue:
            with ended_by_term(), progress(pipeline) as say:
                return run_here(pipeline, say)
        jobs = submit(pipeline)
    for name, job_id in jobs.items():
        print(f"job id    {job_id}  {name}")
    print(f"  hpctrain pipeline status {as_typed(pipeline.path)} --why")
    return 0


def _dry_run(section: object) -> int:
    from hpctrain.pipeline.kinds import commands_of, waits_for
    from hpctrain.pipeline.section import PipelineSection

    assert isinstance(section, PipelineSection)
    for stage in section.stages:
        needs = ", ".join(waits_for(section, stage))
        print(f"{stage.name} ({stage.does}{', skipped' if stage.skip else ''}){f', after {needs}' if needs else ''}")
        for command in commands_of(section, stage):
            print(f"    {shlex.join(command)}")
        if stage.profile is not None:
            print(f"    hpc-submit {shlex.join([stage.profile, *(f'--set={each}' for each in stage.set)])}")
    return 0
