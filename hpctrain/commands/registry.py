"""Keep finished models as numbered versions that never change, and let an alias say which one is in service.

hpctrain registry add RUN --name photoz                       add a finished run as the next version
hpctrain registry list                                        list the models, their versions and aliases
hpctrain registry show photoz[:3|@champion]                   show a model and its history, or a version
hpctrain registry promote photoz:3 --to champion --why TEXT   move an alias; champion needs gates that have passed
hpctrain registry rollback photoz --why TEXT                  move champion back to the version before
hpctrain registry verify [NAME] [--public-key FILE]           compare every byte with the manifests; verify signatures
hpctrain registry sign photoz:3 --key FILE                    sign a version (add, promote, export: --key FILE, too)
hpctrain registry route photoz --b candidate --share 0.1 ID   which version each object goes to
hpctrain registry lineage --file RAW.fits                     which versions have seen this file (or --object ID)
hpctrain registry sync                                        bring MLflow's registry up to date
hpctrain registry export photoz@champion --out DIR            copy a version to a new folder

Commands that take a run or a model folder take registry:photoz@champion, too. The registry is the folder registry/
beside runs/, or the one that --registry or HPCTRAIN_REGISTRY names. `hpctrain docs registry` has the details.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.commands.signing_arguments import add_key_arguments, add_public_key_argument, signer_of, trusted_by
from hpctrain.errors import CheckpointError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR
from hpctrain.registry.names import CHAMPION
from hpctrain.signing.keys import SHORT

if TYPE_CHECKING:
    from hpctrain.registry.folder import Registry
    from hpctrain.signing.keys import Signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain registry``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--registry", type=Path, metavar="DIR", help="folder of the registry (default: ./registry)")
    common.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (text, declare, _) in ACTIONS.items():
        declare(actions.add_parser(name, parents=[common], help=text, description=text))


def run(arguments: argparse.Namespace) -> int:
    """Do one action, and keep MLflow in step where ``registry.yaml`` names a server."""
    code = ACTIONS[arguments.action][2](arguments)
    if arguments.action in ("add", "promote", "rollback"):
        from hpctrain.registry.mlflow import keep_in_step

        if (note := keep_in_step(_registry(arguments))) is not None:
            print(f"note: {note}", file=sys.stderr)
    return code


def _registry(arguments: argparse.Namespace) -> Registry:
    from hpctrain.registry.folder import registry_at

    return registry_at(arguments.registry, arguments.runs_dir)


def _declare_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", metavar="RUN", help="path, name, run id or job id of a finished run")
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the model")
    parser.add_argument("--alias", metavar="ALIAS", help="then let this alias mean the version, as promote does")
    parser.add_argument("--why", default="added", metavar="TEXT", help="the reason for --alias (default: added)")
    parser.add_argument("--note", default="", metavar="TEXT", help="what to remember about the version")
    add_key_arguments(parser)


def _add(arguments: argparse.Namespace) -> int:
    from hpctrain.launch.runs import find_run
    from hpctrain.registry.actions import promote
    from hpctrain.registry.add import add_run
    from hpctrain.registry.signatures import must_be_signed

    directory, signer = find_run(arguments.run_name, arguments.runs_dir), signer_of(arguments)
    registry = _registry(arguments)
    added = add_run(directory, arguments.name, registry, arguments.note)
    if arguments.json:
        from hpctrain.registry.show import version_json

        print(json.dumps({**version_json(added.version), "is_new": added.is_new}, indent=2))
    elif added.is_new:
        print(f"{added.version}: added in {added.version.path}")
    else:
        print(f"{added.version}: has the same files already; nothing was added")
    _sign_with(signer, str(added.version), registry)
    if signer is None and must_be_signed(added.version):
        print(
            f"note: it must be signed before it is used: hpctrain registry sign {added.version} --key FILE",
            file=sys.stderr,
        )
    if arguments.alias:
        move = promote(str(added.version), arguments.alias, arguments.why, registry).move
        if move is not None and not arguments.json:
            print(_moved(f"{arguments.name}@{arguments.alias}", move.facts))
    return 0


def _declare_list(parser: argparse.ArgumentParser) -> None:
    del parser


def _list(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.show import list_json, list_lines

    registry = _registry(arguments)
    print(json.dumps(list_json(registry), indent=2) if arguments.json else "\n".join(list_lines(registry)))
    return 0


def _declare_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME[:N|@ALIAS]", help="a model, or one version of it")


def _show(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.show import show_json, show_lines

    show = show_json if arguments.json else show_lines
    found = show(arguments.what, _registry(arguments))
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(found))
    return 0


def _declare_promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME:N", help="the version")
    parser.add_argument("--to", required=True, metavar="ALIAS", help="the alias, such as champion or candidate")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, which stays in the history")
    parser.add_argument("--force", action="store_true", help="also if gates have not passed; stays in the history")
    add_key_arguments(parser)


def _promote(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import promote

    _sign_with(signer_of(arguments), arguments.what, _registry(arguments))
    done = promote(arguments.what, arguments.to, arguments.why, _registry(arguments), arguments.force)
    alias = f"{done.version.model.name}@{arguments.to}"
    if arguments.json:
        print(json.dumps({"version": done.version.number, "move": done.move and dict(done.move.facts)}, indent=2))
    elif done.move is None:
        print(f"{alias} means version {done.version.number} already; nothing was changed")
    else:
        print(_moved(alias, done.move.facts))
        print(f"  gates: {done.move.facts['gates']}")
    return 0


def _declare_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the model")
    parser.add_argument("--alias", default=CHAMPION, metavar="ALIAS", help=f"the alias (default: {CHAMPION})")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, which stays in the history")


def _rollback(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import rollback

    move = rollback(arguments.name, arguments.alias, arguments.why, _registry(arguments))
    alias = f"{arguments.name}@{arguments.alias}"
    print(json.dumps(dict(move.facts), indent=2) if arguments.json else _moved(alias, move.facts))
    return 0


def _moved(alias: str, facts: dict) -> str:
    before = "" if facts["from"] is None else f", after version {facts['from']}"
    return f"{alias} means version {facts['to']} now{before}"


def _declare_sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME:N", help="the version")
    add_key_arguments(parser, is_needed=True)


def _sign(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import find_version
    from hpctrain.registry.show import version_json

    registry, signer = _registry(arguments), signer_of(arguments)
    _sign_with(signer, arguments.what, registry, is_told=not arguments.json)
    if arguments.json:
        print(json.dumps(version_json(find_version(arguments.what, registry)), indent=2))
    return 0


def _sign_with(signer: Signer | None, what: str, registry: Registry, is_told: bool = False) -> None:
    """Sign a version if there is a key."""
    if signer is None:
        return
    from hpctrain.registry.actions import find_version
    from hpctrain.registry.signatures import sign_version

    version = find_version(what, registry)
    is_new = sign_version(version, signer)
    if is_told:
        print(f"{version}: {'signed' if is_new else 'was signed before'} with key {signer.digest[:SHORT]}")


def _declare_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the model (default: all)")
    add_public_key_argument(parser)


def _verify(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import faults_of

    registry = _registry(arguments)
    names = [arguments.name] if arguments.name else registry.names()
    results, damaged = [], 0
    for what, faults, unread in faults_of(registry, names, trusted_by(arguments)):
        results.append({"what": what, "faults": faults, "unread": unread})
        damaged += bool(faults)
        if not arguments.json:
            _tell(what, faults, unread)
    if arguments.json:
        print(json.dumps(results, indent=2))
    elif not results:
        print(f"no versions in {registry.path}")
    if damaged:
        raise CheckpointError(
            f"{registry.path}: {damaged} of {len(results)} versions and aliases are damaged or not signed as asked"
        )
    return 0


def _tell(what: str, faults: list[str], unread: list[str]) -> None:
    if not faults:
        print(f"{what}: good" + (f" (not read: {', '.join(unread)}, which only its owner may)" if unread else ""))
    for fault in faults:
        print(f"{what}: {fault}")


def _declare_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME[:N|@ALIAS]", help="the version; NAME alone is its champion")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add_key_arguments(parser)


def _export(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import export_version

    if not arguments.out.absolute().parent.is_dir():
        message = f"{arguments.out.absolute().parent} is no directory; make it first"
        raise ProfileError("command line", [Problem("--out", message)])
    _sign_with(signer_of(arguments), arguments.what, _registry(arguments))
    version, left_out = export_version(arguments.what, arguments.out, _registry(arguments))
    for name in left_out:
        print(f"note: {name} was left out; only the one who added {version} may read it", file=sys.stderr)
    print(
        json.dumps({"version": version.number, "out": str(arguments.out)})
        if arguments.json
        else f"{version}: copied to {arguments.out}"
    )
    return 0


def _declare_route(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the model")
    parser.add_argument("ids", nargs="+", type=int, metavar="ID", help="target_id of objects")
    parser.add_argument("--a", default=CHAMPION, metavar="ALIAS", help=f"version of most objects (default: {CHAMPION})")
    parser.add_argument("--b", default="candidate", metavar="ALIAS", help="version of the share (default: candidate)")
    parser.add_argument("--share", type=_share, required=True, metavar="SHARE", help="share of objects for --b, 0 to 1")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; must be a number from 0 to 1")
    return value


def _route(arguments: argparse.Namespace) -> int:
    import numpy as np

    from hpctrain.registry.actions import find_version
    from hpctrain.registry.route import goes_to_b

    registry, ids = _registry(arguments), [number % 2**64 for number in arguments.ids]
    versions = [str(find_version(f"{arguments.name}@{alias}", registry)) for alias in (arguments.a, arguments.b)]
    chosen = goes_to_b(np.array(ids, dtype=np.uint64).view(np.int64), arguments.share, arguments.name)
    found = {str(number): versions[int(is_b)] for number, is_b in zip(arguments.ids, chosen, strict=True)}
    lines = [f"{number}  {version}" for number, version in found.items()]
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(lines))
    return 0


def _declare_lineage(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--file", metavar="FILE", help="which versions have seen a raw file or a data file")
    what.add_argument("--object", type=int, metavar="ID", help="which versions have seen an object (target_id)")
    what.add_argument("--of", metavar="NAME[:N|@ALIAS]", help="where a version comes from")


def _lineage(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.actions import find_version
    from hpctrain.registry.seen import versions_with_file, versions_with_object
    from hpctrain.registry.show import lineage_json, lineage_lines, seen_json, seen_lines

    registry = _registry(arguments)
    if arguments.of:
        version = find_version(arguments.of, registry)
        print(json.dumps(lineage_json(version), indent=2) if arguments.json else "\n".join(lineage_lines(version)))
        return 0
    by_file = arguments.file is not None
    seen = versions_with_file(arguments.file, registry) if by_file else versions_with_object(arguments.object, registry)
    what = arguments.file if by_file else f"object {arguments.object}"
    print(json.dumps(list(map(seen_json, seen)), indent=2) if arguments.json else "\n".join(seen_lines(what, seen)))
    return 0


def _sync(arguments: argparse.Namespace) -> int:
    from hpctrain.registry.mlflow import sync

    done = sync(_registry(arguments))
    if arguments.json:
        print(json.dumps(vars(done), indent=2))
    else:
        print(
            "\n".join([*(f"registered {name}" for name in done.made), *(f"moved {name}" for name in done.moved)])
            or "up to date"
        )
    return 0


_Action = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
ACTIONS: dict[str, _Action] = {
    "add": ("add a finished run as the next version of a model", _declare_add, _add),
    "list": ("list the models, their versions and aliases", _declare_list, _list),
    "show": ("show a model and its history, or a version", _declare_show, _show),
    "promote": ("let an alias mean a version", _declare_promote, _promote),
    "rollback": ("let an alias mean the version that it meant before", _declare_rollback, _rollback),
    "verify": ("compare every byte with the manifests, and verify signatures", _declare_verify, _verify),
    "sign": ("sign a version, so that others can verify who has approved it", _declare_sign, _sign),
    "route": ("say which of two versions each object goes to", _declare_route, _route),
    "lineage": ("say which versions have seen a file or an object", _declare_lineage, _lineage),
    "sync": ("bring the registry of models of an MLflow server up to date", _declare_list, _sync),
    "export": ("copy a version to a new folder", _declare_export, _export),
}
"""Name of each action, with its help, its arguments and the function that does it."""
