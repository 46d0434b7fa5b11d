"""Search for the best values of some keys of a profile: many trials, as one job array that nobody has to watch.

hpctrain search profiles/search.yaml             check every corner of the space, submit, return at once
hpctrain search profiles/search.yaml --dry-run   check, then print the script and five sampled trials
hpctrain search status STUDY                     how the trials stand
hpctrain search status STUDY -f                  the same as a table that is redrawn
hpctrain search best STUDY --out best.yaml       the best trials; the profile of the best one
hpctrain search refit STUDY                      train with the best values again, validation objects included
hpctrain search report STUDY                     write one HTML page about the study
hpctrain search export STUDY --to URL            copy the trials into a database for optuna-dashboard
hpctrain search stop STUDY                       start no further trial (--now: end running ones, too)
hpctrain search resume STUDY                     go on with trials whose job is gone
hpctrain search extend STUDY 20                  add trials
hpctrain search init PROFILE --out study.yaml    write a study file with the usual space of the family of a profile
hpctrain search ensemble STUDY                   mix the best trials, and score the mixture beside the best one
hpctrain search predict STUDY FILE... --out P.h5 predict with this mixture

STUDY is the folder of a study, its name or its id; for predict also a folder that ensemble --out has written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpctrain.access import enter
from hpctrain.commands.argument_types import positive
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError

ACTIONS = ("status", "best", "report", "export", "stop", "resume", "extend")
MORE_ACTIONS = ("init", "refit", "ensemble", "predict")
_ALL_ACTIONS = ", ".join((*ACTIONS, *MORE_ACTIONS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain search``."""
    parser.add_argument("what", nargs="?", metavar="STUDY.yaml|ACTION", help=f"study file, or {_ALL_ACTIONS}")
    parser.add_argument("study", nargs="?", metavar="STUDY", help="folder, name or id of a study, for an action")
    parser.add_argument("rest", nargs="*", metavar="N|FILE", help="extend: how many more trials; predict: files")
    add_set_argument(parser)
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster of the base")
    parser.add_argument("--dry-run", action="store_true", help="check, then print the script and five sampled trials")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory of the largest trials")
    parser.add_argument("--wait", action="store_true", help="wait until all trials have ended (also: resume)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write: a profile, page, study or predictions")
    parser.add_argument("--now", action="store_true", help="stop: also cancel the trials that run; they save first")
    parser.add_argument("--json", action="store_true", help="status, best: print JSON")
    parser.add_argument("-f", "--watch", action="store_true", help="status: redraw until the study is over or Ctrl-C")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="-f: seconds between drawings")
    parser.add_argument("--trial", type=int, metavar="N", help="refit: take this trial instead of the best one")
    parser.add_argument("--to", metavar="URL", help="export: the database, instead of storage of the study file")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where to look for studies")
    of_init = parser.add_argument_group("init")
    of_init.add_argument("--families", metavar="A,B", help="families to search over, instead of the profile's")
    of_init.add_argument("--hours", type=float, metavar="H", help="budget of GPU hours; of ranks where there is no GPU")
    mixed = parser.add_argument_group("ensemble and predict")
    mixed.add_argument("--size", type=positive, default=20, metavar="N", help="steps that add a model or weight (20)")
    mixed.add_argument("--overwrite", action="store_true", help="predict: replace the file of --out")
    mixed.add_argument("--batch-size", type=positive, default=256, metavar="N", help="predict: samples per batch (256)")
    mixed.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto: GPU if there is one")
    mixed.add_argument("--reader-threads", type=int, default=2, metavar="N", help="predict: threads of each model (2)")


def run(arguments: argparse.Namespace) -> int:
    """Submit a study, or do something with one that was submitted."""
    overrides = overrides_of(arguments, "what")
    if arguments.what in MORE_ACTIONS:
        more = {"init": _init, "refit": _refit, "ensemble": _ensemble, "predict": _predict}
        return more[arguments.what](arguments, overrides)
    if arguments.what in ACTIONS:
        arguments.number = _number(arguments)
        from hpctrain.search.actions import act

        return act(arguments.what, arguments)
    if arguments.what is None or arguments.study is not None:
        message = f"give a study file (hpctrain search study.yaml), or one of {_ALL_ACTIONS} and a study"
        raise ProfileError("command line", [Problem("", message)])
    return _submit(arguments, overrides)


def _submit(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.search.sampling import need_optuna
    from hpctrain.search.study_file import check_study, read_study
    from hpctrain.search.submit import new_study, start

    need_optuna()
    study = read_study(arguments.what, overrides)
    findings = check_study(study, memory=not arguments.no_memory)
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    new = new_study(study.section, arguments.cluster)
    if arguments.dry_run:
        from hpctrain.search.describe import describe_dry_run

        print(describe_dry_run(new))
        return 0
    job_id = start(new)
    path = as_typed(new.directory.path)
    print(f"study   {path}")
    print(f"job id  {job_id}: {new.section.trials} trials, {new.section.parallel} at once")
    for action in ("status", "best", "report", "stop"):
        print(f"  hpctrain search {action:<6} {path}")
    if arguments.wait:
        from hpctrain.search.actions import wait_until_over

        return wait_until_over(new.directory)
    return 0


def _wrong(message: str, where: str = "") -> ProfileError:
    return ProfileError("command line", [Problem(where, message)])


def _number(arguments: argparse.Namespace) -> int | None:
    """Return how many more trials ``extend`` asks for."""
    if not arguments.rest:
        return None
    if arguments.what != "extend" or len(arguments.rest) > 1:
        raise _wrong(f"'{arguments.rest[-1]}' has no meaning here: hpctrain search {arguments.what} STUDY")
    try:
        return positive(arguments.rest[0])
    except argparse.ArgumentTypeError as error:
        raise _wrong(f"how many more trials? {error}: hpctrain search extend STUDY 20") from None


def _init(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.search.init import study_text, write_study_file

    if arguments.study is None or arguments.out is None:
        raise _wrong("which profile, and which file? hpctrain search init PROFILE --out study.yaml")
    families = [name.strip() for name in (arguments.families or "").split(",") if name.strip()]
    text = study_text(Path(arguments.study), arguments.out, families, arguments.hours, overrides)
    write_study_file(arguments.out, text)
    print(f"wrote {arguments.out}; look at it, then: hpctrain search {arguments.out} --dry-run")
    return 0


def _refit(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.commands.search_refit import refit

    return refit(arguments, overrides)


def _ensemble(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.search.ensemble import described, make_ensemble, write_ensemble
    from hpctrain.search.folder import find_study

    if arguments.study is None:
        raise _wrong("which study? hpctrain search ensemble STUDY")
    study = find_study(arguments.study, arguments.runs_dir)
    enter(study.path)
    ensemble = make_ensemble(study, arguments.size)
    path = write_ensemble(study, ensemble, arguments.out)
    print(described(ensemble))
    print(f"  written: {as_typed(path)}; hpctrain search predict {as_typed(path.parent)} FILE --out predictions.h5")
    return 0


def _predict(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.commands.using_model import check_out, choose_device, progress_bar
    from hpctrain.search.ensemble import FILE, read_ensemble
    from hpctrain.search.folder import find_study

    if arguments.study is None or not arguments.rest or arguments.out is None:
        raise _wrong("which study, files and result? hpctrain search predict STUDY FILE... --out predictions.h5")
    folder = Path(arguments.study)
    if not (folder / FILE).exists():
        folder = find_study(arguments.study, arguments.runs_dir).path
    ensemble = read_ensemble(folder)
    arguments.files = arguments.rest
    check_out("hpctrain search predict", arguments)
    device = choose_device("hpctrain search predict", arguments.device)
    from hpctrain.search.ensemble_predict import predict_ensemble

    threads = max(0, arguments.reader_threads)
    said = predict_ensemble(
        folder, ensemble, arguments.files, arguments.out, progress_bar, device, arguments.batch_size, threads
    )
    print(said)
    return 0
