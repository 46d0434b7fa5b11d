"""Look into one step of a run that diverged or whose loss jumped: which objects, pixels and layers did it.

hpctrain autopsy RUN                          the step of the divergence, or the largest spike of the loss
hpctrain autopsy RUN --step 1234              another step: the one that leads to 1234 updates
hpctrain autopsy RUN --without culprits       replay without those that stand out, and compare the losses
hpctrain autopsy RUN --without 1017,1033 --steps 200

The exact global batch of the step is replayed from the checkpoint before it, in one process on this machine, whatever
the number of ranks was. The run directory is only read. A page, autopsy.html, and autopsy.json are written to --out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import RunDir

PAGE, VALUES = "autopsy.html", "autopsy.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain autopsy``."""
    parser.add_argument("run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument("--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (./runs)")
    parser.add_argument("--step", type=int, metavar="N", help="step to look into (default: divergence, or spike)")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), help="where to compute (default: train.device)")
    parser.add_argument(
        "--without", metavar="ID,...", help="replay without these target ids; 'culprits' for those that stand out"
    )
    parser.add_argument(
        "--steps", type=int, metavar="K", help="with --without: steps from the checkpoint (default: 20 after the step)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (autopsy-NAME-ID-step-N)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Look into the step, write the page, and print what was found."""
    without = _without(args)
    directory = find_run(args.run_dir, args.runs_dir)
    if not directory.profile.is_file():
        raise ProfileError(str(directory.path), [Problem("RUN", "has no profile.yaml, so it cannot be replayed")])
    if args.out is not None:
        refuse_inside(args.out, directory)
    from hpctrain.commands.using_model import progress_bar
    from hpctrain.rehearsal.autopsy import look_into
    from hpctrain.rehearsal.page import render
    from hpctrain.rehearsal.told import text, to_json
    from hpctrain.report.document import write_document

    found = look_into(directory, args.step, args.device, progress_bar, without, args.steps)
    folder = args.out or Path(f"autopsy-{directory.name}-{directory.run_id}-step-{found.chosen.step}")
    refuse_inside(folder, directory)
    values = to_json(found)
    page = write_document(folder / PAGE, render(found))
    write_document(folder / VALUES, json.dumps(values, indent=1) + "\n")
    print(json.dumps(values, indent=1) if args.json else "\n".join([*text(found), "", str(page)]))
    return 0


def refuse_inside(folder: Path, directory: RunDir) -> None:
    """Refuse a folder for results in a run directory, which must not change.

    Raises
    ------
    ProfileError
        It is inside.
    """
    if folder.resolve().is_relative_to(directory.path.resolve()):
        raise ProfileError(str(folder), [Problem("--out", "is inside the run directory; name a folder outside of it")])


def _without(args: argparse.Namespace) -> list[int] | str | None:
    """Return the objects to leave out.

    Raises
    ------
    ProfileError
        The options do not fit together; the message names all problems.
    """
    problems, found = [], None
    if args.without == "culprits":
        found = "culprits"
    elif args.without is not None:
        parts = [part.strip() for part in args.without.split(",") if part.strip()]
        wrong = [part for part in parts if not part.removeprefix("-").isdigit()]
        if wrong or not parts:
            message = f"{', '.join(wrong) or 'nothing'} is no target_id; write --without 1017,1033 or culprits"
            problems.append(Problem("--without", message))
        else:
            found = [int(part) for part in parts]
    if args.steps is not None and args.without is None:
        problems.append(Problem("--steps", "belongs to --without; add the objects to leave out"))
    if args.steps is not None and args.steps < 1:
        problems.append(Problem("--steps", f"{args.steps} is not above 0"))
    if problems:
        raise ProfileError("command line", problems)
    return found
