"""Show or verify the audit trail of a registry: who submitted, cancelled, promoted, signed or deleted what, and when.

hpctrain audit-trail show                     the newest entries
hpctrain audit-trail verify                   is the chain whole, and has every change of the registry an entry?
hpctrain audit-trail head --out FILE          write the number and the SHA-256 of the last entry, to keep elsewhere
hpctrain audit-trail verify --head FILE|SHA   are all entries up to that one still there?

The trail is registry/audit.jsonl. Nobody can take away entries from its end unnoticed if a head of it is kept where
others cannot write. Exit code 5 means that the trail was changed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from hpctrain.commands.argument_types import positive
from hpctrain.errors import CheckpointError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR
from hpctrain.rundir import read_json, write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain audit-trail``."""
    parser.add_argument("action", choices=("show", "verify", "head"), help="what to do")
    parser.add_argument("--head", metavar="FILE|SHA", help="verify: a head kept earlier, or the SHA-256 of an entry")
    parser.add_argument("--out", type=Path, metavar="FILE", help="head: file to write (default: print it)")
    parser.add_argument("--last", type=positive, default=20, metavar="N", help="show: number of entries (20)")
    parser.add_argument("--registry", type=Path, metavar="DIR", help="folder of the registry (default: ./registry)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Show or verify the trail."""
    from hpctrain.registry.folder import registry_at

    registry = registry_at(arguments.registry, arguments.runs_dir)
    if arguments.action == "show":
        return _show(registry.path, arguments)
    from hpctrain.registry.trail_verify import verify_trail

    report = verify_trail(registry, _digest(arguments.head))
    if arguments.action == "head" and not report.faults:
        return _head(registry.path, report.num_entries, report.head, arguments.out)
    if arguments.json:
        print(json.dumps(vars(report), indent=2))
    else:
        print(
            "\n".join([*report.notes, f"{report.num_entries} entries; SHA-256 of the last one: {report.head or '-'}"])
        )
    if report.faults:
        lines = "\n".join(f"  {fault}" for fault in report.faults)
        raise CheckpointError(f"{registry.path}: the audit trail is not whole\n{lines}")
    return 0


def _head(folder: Path, number: int, digest: str | None, out: Path | None) -> int:
    """Print or write the last entry of a trail that is whole."""
    if digest is None:
        raise CheckpointError(f"{folder}: the audit trail has no entries yet, so it has no head")
    text = json.dumps({"trail": str(folder), "number": number, "sha256": digest, "when": time.time()}) + "\n"
    if out is None:
        print(text, end="")
        return 0
    if os.path.lexists(out) or not out.absolute().parent.is_dir():
        message = f"{out} exists, or its folder does not; choose another name"
        raise ProfileError("command line", [Problem("--out", message)])
    write_atomic(out, text)
    print(f"{out}: entry {number}")
    return 0


def _digest(head: str | None) -> str | None:
    """Return the SHA-256 of an entry that somebody has kept, in a file or as it is."""
    if head is None or not os.path.isfile(head):
        return head
    found = read_json(Path(head))
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), str):
        raise ProfileError("command line", [Problem("--head", f"{head} is not what hpctrain audit-trail head wrote")])
    return str(found["sha256"])


def _show(folder: Path, arguments: argparse.Namespace) -> int:
    from collections import deque

    from hpctrain.trail.chain import FILE, Entry, read_trail

    entries = deque((item.facts for item in read_trail(folder / FILE) if isinstance(item, Entry)), arguments.last)
    if arguments.json:
        print(json.dumps(list(entries), indent=2))
        return 0
    for facts in entries:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["when"]))
        why = f": {facts['details']['why']}" if "why" in facts["details"] else ""
        print(
            f"{facts['number']:>6}  {when}  {facts['user']}@{facts['host']}  {facts['action']} {facts['subject']}{why}"
        )
    if not entries:
        print(f"no entries in {folder / FILE}")
    return 0
