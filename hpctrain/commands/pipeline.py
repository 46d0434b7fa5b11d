"""From new data to a registered model in stages: each is done once for the same inputs, commands and version.

hpctrain pipeline FILE.yaml                go through it: here, or one job per stage in the queue; go on after a failure
hpctrain pipeline FILE.yaml --dry-run      check it, and print the commands
hpctrain pipeline FILE.yaml --if-changed   do nothing unless a file from outside, or the pipeline, has changed
hpctrain pipeline status NAME [--why]      how far it is, and why each stage was done again
hpctrain pipeline graph NAME               its stages and what they need, in the language Mermaid
hpctrain pipeline report NAME              its page: the stages as a picture and as a table
hpctrain pipeline clean NAME               remove what stages that failed have left
hpctrain pipeline schedule FILE.yaml       print what calls it again and again: for cron, scrontab or systemd

Exit codes: 0 done, 7 a gate or the data failed, and those of hpctrain --help.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.pipeline.section import PipelineSection

CRON, WAYS = "cron", ("cron", "scron", "systemd")
ACTIONS = ("status", "graph", "report", "clean", "schedule")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain pipeline``."""
    parser.add_argument("what", nargs="?", metavar="FILE.yaml|ACTION", help=f"pipeline file, or {', '.join(ACTIONS)}")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name, id or folder of a pipeline, for an action")
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster of the file")
    parser.add_argument("--dry-run", action="store_true", help="check, then print the commands of each stage")
    parser.add_argument("--if-changed", action="store_true", help="do nothing unless something has changed")
    parser.add_argument("--for", dest="way", choices=WAYS, default=CRON, help="schedule: who calls it (cron)")
    parser.add_argument("--every", default="5m", metavar="TIME", help="schedule: 5m, 2h or 1d (5m)")
    parser.add_argument("--why", action="store_true", help="status: what has changed, and where the results are")
    parser.add_argument("--out", type=Path, metavar="FILE", help="report: file to write (default: report.html there)")
    parser.add_argument("--json", action="store_true", help="status: print JSON")
    parser.add_argument("--folder", type=Path, default=Path("pipelines"), metavar="DIR", help="where to look for NAME")


def run(arguments: argparse.Namespace) -> int:
    """Go through a pipeline, or say how far one is."""
    if arguments.what in ACTIONS:
        return _act(arguments)
    if arguments.what is None or arguments.name is not None:
        message = f"give a pipeline file (hpctrain pipeline weekly.yaml), or one of {', '.join(ACTIONS)} and a pipeline"
        raise ProfileError("command line", [Problem("", message)])
    from hpctrain.launch.present import as_typed
    from hpctrain.launch.targets import find_target
    from hpctrain.pipeline.changes import has_changed, note_inputs
    from hpctrain.pipeline.file import read_pipeline
    from hpctrain.pipeline.progress import progress
    from hpctrain.pipeline.run import only_one, open_pipeline, run_here, submit

    section = read_pipeline(arguments.what)
    check_options(section, arguments.what)
    if arguments.dry_run:
        return _dry_run(section)
    if arguments.if_changed and not has_changed(section):
        print(f"{section.name}: nothing has changed since it was done")
        return 0
    pipeline = open_pipeline(section, arguments.cluster)
    note_inputs(pipeline)
    print(f"pipeline  {as_typed(pipeline.path)}", flush=True)
    with only_one(pipeline):
        if not find_target(pipeline.read_record()["cluster"]).has_queue:
            with progress(pipeline) as say:
                return run_here(pipeline, say)
        jobs = submit(pipeline)
    for name, job_id in jobs.items():
        print(f"job id    {job_id}  {name}")
    print(f"  hpctrain pipeline status {as_typed(pipeline.path)} --why")
    return 0


def check_options(section: PipelineSection, file: str) -> None:
    """Parse the options of all commands of hpctrain, so that a wrong one does not end the pipeline after hours.

    Raises
    ------
    ProfileError
        There are wrong ones; the message lists all.
    """
    from hpctrain.cli import COMMANDS, command_parser
    from hpctrain.pipeline.kinds import commands_of

    problems = []
    for number, stage in enumerate(section.stages):
        for _, *words in (command for command in commands_of(section, stage) if command[0] == "hpctrain"):
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                    if not words or words[0] not in COMMANDS:
                        raise SystemExit(2)
                    command_parser(words[0]).parse_args(words[1:])
            except SystemExit as ended:
                if ended.code:
                    why = said.getvalue().strip().rpartition("error: ")[2] or "there is no such command of hpctrain"
                    problems.append(
                        Problem(f"stages.{number}", f"{stage.name}: {shlex.join(['hpctrain', *words])}: {why}")
                    )
    if problems:
        raise ProfileError(file, problems)


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


def _act(arguments: argparse.Namespace) -> int:
    if arguments.what == "schedule" and arguments.name is not None:
        from hpctrain.pipeline.file import read_pipeline
        from hpctrain.pipeline.schedule import schedule_text

        file = Path(arguments.name)
        print(schedule_text(file, read_pipeline(file), arguments.way, arguments.every, Path.cwd()), end="")
        return 0
    from hpctrain.pipeline.describe import lines_of, mermaid, states_of
    from hpctrain.pipeline.folder import find_pipeline
    from hpctrain.pipeline.run import only_one, remove_unfinished

    if arguments.name is None:
        message = f"which pipeline? hpctrain pipeline {arguments.what} NAME"
        raise ProfileError("command line", [Problem("", message)])
    pipeline = find_pipeline(arguments.name, arguments.folder)
    if arguments.what == "graph":
        print(mermaid(pipeline))
    elif arguments.what == "report":
        from hpctrain.launch.present import as_typed
        from hpctrain.pipeline.page import write_page

        print(as_typed(write_page(pipeline, arguments.out)))
    elif arguments.what == "clean":
        with only_one(pipeline):
            print(f"{remove_unfinished(pipeline)} folders removed")
    elif arguments.json:
        print(json.dumps({"pipeline": str(pipeline.path), "stages": states_of(pipeline)}, indent=2))
    else:
        print("\n".join(lines_of(pipeline, arguments.why)))
    return 0
