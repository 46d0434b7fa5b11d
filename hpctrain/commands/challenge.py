"""Compare a trained candidate with the registered version in service; let it take its place if it is better.

hpctrain challenge RUN --model photoz --frozen test.h5 --newest week6.h5             compare only
hpctrain challenge RUN --model photoz --frozen test.h5 --newest week6.h5 --promote   and promote it if it is better

Both models predict the objects of the frozen and of the newest files that are on the test side of the candidate's
split, and on which no version was trained. The candidate must be better by the deciding metric on one of both sets, and
worse by no metric, on neither set, in no bin of validate.bins; both by paired tests over objects. Otherwise the exit
code is 7. Where no version is in service yet, the candidate passes. The first call keeps the SHA-256 of the frozen
files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.commands.argument_types import positive, share
from hpctrain.errors import GateError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.registry.names import CHAMPION

if TYPE_CHECKING:
    from hpctrain.pipeline.challenge import Decision, Rules
    from hpctrain.registry.folder import ModelFolder
    from hpctrain.registry.version import Version
    from hpctrain.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain challenge``."""
    parser.add_argument("run_dir", metavar="RUN", help="the candidate: path, name, run id or job id of a finished run")
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the model in the registry")
    parser.add_argument("--alias", default=CHAMPION, metavar="ALIAS", help=f"of the version in service ({CHAMPION})")
    parser.add_argument("--frozen", nargs="+", required=True, metavar="FILE", help="files that never change")
    parser.add_argument("--newest", nargs="+", required=True, metavar="FILE", help="files of the newest data")
    parser.add_argument("--metric", nargs="+", default=[], metavar="NAME", help="as of compare; the first one decides")
    parser.add_argument("--allow", type=float, default=0.0, metavar="SHARE", help="worse by this share is allowed (0)")
    parser.add_argument("--draws", type=positive, default=2000, help="bootstrap draws (2000)")
    parser.add_argument("--confidence", type=share, default=0.95, metavar="SHARE", help="of the tests (0.95)")
    parser.add_argument("--profile", metavar="FILE", help="take validate.bins of this profile, not of the run's own")
    parser.add_argument("--promote", action="store_true", help="add the candidate, and move the alias if it is better")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON to write")
    parser.add_argument("--registry", type=Path, metavar="DIR", help="folder of the registry (default: ./registry)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )


def run(args: argparse.Namespace) -> int:
    """Compare, print and write the outcome, and promote the candidate."""
    from hpctrain.pipeline.service import in_service
    from hpctrain.registry.folder import registry_at
    from hpctrain.registry.names import check_alias, check_name
    from hpctrain.registry.version import WEIGHTS
    from hpctrain.rundir import file_digest

    directory = find_run(args.run_dir, args.runs_dir)
    registry = registry_at(args.registry, args.runs_dir)
    model = registry.model(check_name(args.model))
    champion = in_service(model, check_alias(args.alias))
    if champion is not None and champion.files[WEIGHTS]["sha256"] == file_digest(directory.path / WEIGHTS):
        return _end(args, model, champion, {"passed": True, "why": f"it is {champion}, which is in service already"})
    found, facts = _decide(args, directory, model, champion)
    for each in found.comparisons:
        print(each)
    facts = {**found.as_dict(), **facts}
    if not found.passed:
        _write(args, facts)
        raise GateError(f"{directory.path}: {found.why}")
    if args.promote:
        facts["promoted"] = _promote(args, directory, model, champion, facts)
    return _end(args, model, champion, facts)


def _end(args: argparse.Namespace, model: ModelFolder, champion: Version | None, facts: dict[str, Any]) -> int:
    _write(args, {**facts, "champion": None if champion is None else str(champion)})
    print(facts["why"])
    if facts.get("promoted"):
        from hpctrain.registry.mlflow import keep_in_step

        print(f"{model.name}@{args.alias} means {facts['promoted']} now")
        if (note := keep_in_step(model.registry)) is not None:
            print(f"note: {note}", file=sys.stderr)
    return 0


def _write(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    from hpctrain.rundir import write_json
    from hpctrain.validation.validate import finite

    if args.out is not None:
        write_json(args.out, finite(facts))


def _decide(
    args: argparse.Namespace, directory: RunDir, model: ModelFolder, champion: Version | None
) -> tuple[Decision, dict[str, Any]]:
    """Return the decision, and what it was made on."""
    from hpctrain.commands.challenge_sets import objects_of, test_set
    from hpctrain.pipeline.challenge import Decision, compare_on, decide
    from hpctrain.pipeline.frozen import refuse_trained, require_frozen
    from hpctrain.pipeline.service import trained_objects
    from hpctrain.registry.lineage import lineage_of

    frozen = require_frozen(model, args.frozen)
    rows = lineage_of(directory)[1]
    trained = {**trained_objects(model), "the candidate": rows["target_id"][rows["side"] == 0]}
    judging = objects_of(directory, args.frozen)
    refuse_trained(judging, trained)
    facts = {"frozen": frozen, "frozen_objects": len(judging), "newest": args.newest}
    if champion is None:
        return Decision(True, f"{model.name} has no {args.alias} yet", []), facts
    rules = _rules(args, directory)
    sets = [
        test_set(name, (champion, directory), files, trained)
        for name, files in (("frozen", args.frozen), ("newest", args.newest))
    ]
    comparisons = [each for test in sets for each in compare_on(test, rules)]
    facts |= {f"{test.name}_objects": len(set(test.candidate.judged.target_id.tolist())) for test in sets}
    return decide(comparisons, rules, str(champion)), facts


def _rules(args: argparse.Namespace, directory: RunDir) -> Rules:
    from hpctrain.pipeline.challenge import Rules
    from hpctrain.profile.load import load_profile

    section = load_profile(args.profile or directory.profile).validate
    return Rules(tuple(args.metric), args.allow, tuple(section.bins or ()), args.confidence, args.draws)


def _promote(
    args: argparse.Namespace, directory: RunDir, model: ModelFolder, champion: Version | None, facts: dict[str, Any]
) -> str:
    """Add the candidate to the registry, and let the alias mean it instead of the version that it was compared with."""
    from hpctrain.registry.actions import promote
    from hpctrain.registry.add import add_run

    added = add_run(directory, model.name, model.registry)
    sha = ", ".join(digest[:12] for digest in facts["frozen"].values())
    why = f"{facts['why']}; frozen test set SHA-256 {sha}"
    instead_of = None if champion is None else champion.number
    return str(promote(str(added.version), args.alias, why, model.registry, instead_of=instead_of).version)
