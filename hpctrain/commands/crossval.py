"""Cross-validate a profile, or a whole search: every object is predicted by a model that has not seen it.

hpctrain crossval PROFILE --folds 5                        one run per fold, as one array
hpctrain crossval PROFILE --folds 5 --by sky --repeats 3   all objects of a cell of the sky in one fold; three times
hpctrain crossval STUDY                                    metrics with intervals, and the catalogue of predictions
hpctrain crossval SEARCH.yaml --folds 5                    nested: for each fold a search among the others
hpctrain crossval NESTED --test                            train each winner anew and test it on its fold

STUDY is a folder, name or id; NESTED the folder that the nested one has printed. To look at runs, stop or resume them:
hpctrain search status|stop|resume STUDY.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hpctrain.access import enter
from hpctrain.commands.argument_types import positive
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.sections.data import BY_FIELD, BY_OBJECT, BY_SKY, BY_TIME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain crossval``."""
    parser.add_argument("what", nargs="?", metavar="PROFILE|SEARCH.yaml|STUDY", help="what to do it with")
    add_set_argument(parser)
    parser.add_argument("--folds", type=positive, default=5, metavar="K", help="number of folds (5)")
    parser.add_argument("--repeats", type=positive, default=1, metavar="R", help="do it R times, with other folds (1)")
    choices = (BY_OBJECT, BY_SKY, BY_FIELD, BY_TIME)
    parser.add_argument("--by", choices=choices, help="what stays together in a fold (data.split.by)")
    parser.add_argument("--column", metavar="NAME", help="column of the field or the time (data.split.column)")
    parser.add_argument("--nside", type=positive, metavar="N", help="HEALPix cells of --by sky (data.split.nside)")
    parser.add_argument("--stratify", metavar="NAME", help="same share of this class or number in each fold")
    parser.add_argument("--parallel", type=positive, default=4, metavar="N", help="runs at once (4)")
    parser.add_argument("--cluster", metavar="TARGET", help="where to run, instead of launch.cluster")
    parser.add_argument("--dry-run", action="store_true", help="check, then print the script of the array")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory")
    parser.add_argument("--wait", action="store_true", help="wait until all runs have ended, then print the metrics")
    parser.add_argument("--test", action="store_true", help="nested: train the winners anew and test them")
    parser.add_argument("--trial", type=int, metavar="N", help="of a search with folds: this trial, not the best one")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where to look for studies")


def run(arguments: argparse.Namespace) -> int:
    """Submit a cross-validation, or gather one that has finished."""
    overrides = overrides_of(arguments, "what")
    if arguments.what is None:
        message = "which profile? hpctrain crossval profiles/trees.yaml --folds 5; or which study?"
        raise ProfileError("command line", [Problem("", message)])
    path = Path(arguments.what)
    if path.is_file():
        return _nested(path, arguments, overrides) if _is_search(path) else _submit(path, arguments, overrides)
    if path.suffix in (".yaml", ".yml"):
        raise ProfileError("command line", [Problem(arguments.what, "there is no such file")])
    return _gather(arguments)


def _is_search(path: Path) -> bool:
    from hpctrain.profile.reading import read_plain

    return "space" in read_plain(path).data


def _split_changes(arguments: argparse.Namespace) -> list[str]:
    names = ("by", "column", "nside", "stratify")
    return [f"data.split.{name}={json.dumps(value)}" for name in names if (value := getattr(arguments, name))]


def _submit(path: Path, arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.search.crossval import CrossValidation, check_crossval
    from hpctrain.search.submit import new_study, start

    changes = [*_split_changes(arguments), *overrides]
    asked = CrossValidation(path, arguments.folds, arguments.repeats, arguments.parallel, changes)
    section, findings = check_crossval(asked, memory=not (arguments.no_memory or arguments.dry_run))
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    new = new_study(section, arguments.cluster)
    if arguments.dry_run:
        from hpctrain.search.describe import describe_dry_run

        print(describe_dry_run(new))
        return 0
    job_id = start(new)
    typed = as_typed(new.directory.path)
    print(f"study   {typed}")
    print(f"job id  {job_id}: {arguments.folds} folds, {arguments.repeats} time(s), {arguments.parallel} runs at once")
    print(f"  hpctrain search status {typed}\n  hpctrain crossval {typed}      once it has finished")
    if not arguments.wait:
        return 0
    from hpctrain.search.actions import wait_until_over

    arguments.what = str(new.directory.path)
    return wait_until_over(new.directory) or _gather(arguments)


def _gather(arguments: argparse.Namespace) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.rundir import write_json
    from hpctrain.search import out_of_fold
    from hpctrain.search.crossval_table import lines_of
    from hpctrain.search.folder import find_study
    from hpctrain.search.nested import described, read_nested, retrain_winners

    nested = read_nested(Path(arguments.what))
    if nested is not None and (arguments.test or nested.tested is None):
        if not arguments.test:
            print(described(nested))
            print(f"  once they are over: hpctrain crossval {arguments.what} --test")
            return 0
        print(f"study   {as_typed(retrain_winners(nested).tested.path)}")  # type: ignore[union-attr]
        return 0
    study = nested.tested if nested is not None else find_study(arguments.what, arguments.runs_dir)
    assert study is not None
    enter(study.path)
    parts = out_of_fold.gather(study, arguments.trial)
    together = out_of_fold.pooled(study.name, parts)
    found = out_of_fold.summarise(study, parts, together)
    out_of_fold.write_catalogue(together, study.path / out_of_fold.CATALOGUE)
    write_json(study.path / out_of_fold.RESULT, found)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    print("\n".join([*lines_of(found), ""]))
    print(as_typed(study.path / out_of_fold.CATALOGUE))
    print(as_typed(study.path / out_of_fold.RESULT))
    return 0


def _nested(path: Path, arguments: argparse.Namespace, overrides: list[str]) -> int:
    from hpctrain.launch.present import as_typed
    from hpctrain.search.nested import new_nested, start_nested

    memory = not (arguments.no_memory or arguments.dry_run)
    new = new_nested(path, arguments.folds, _split_changes(arguments), overrides, arguments.cluster, memory)
    if arguments.dry_run:
        from hpctrain.search.describe import describe_dry_run

        print(describe_dry_run(new[0]))
        print(f"# and the same without each other of {arguments.folds} folds")
        return 0
    typed = as_typed(start_nested(new).path)
    trials = new[0].section.trials
    print(f"nested  {typed}: {len(new)} studies of {trials} trials, each on {arguments.folds - 1} folds")
    print(f"  hpctrain crossval {typed}             how far they are\n  hpctrain crossval {typed} --test      then")
    return 0
