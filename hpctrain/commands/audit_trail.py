"""Show or verify the audit trail of a registry: who submitted, cancelled, promoted or deleted what, and when.

hpctrain audit-trail show                 the newest entries
hpctrain audit-trail verify               is the chain whole, and has every change of the registry an entry?
hpctrain audit-trail verify --head SHA    is the entry that somebody noted still in it?

The trail is registry/audit.jsonl. verify prints the SHA-256 of the last entry; note it elsewhere, and nobody can take
away entries from the end without being noticed. Exit code 5 means that the trail was changed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from hpctrain.commands.argument_types import positive
from hpctrain.errors import CheckpointError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain audit-trail``."""
    parser.add_argument("action", choices=("show", "verify"), help="what to do")
    parser.add_argument("--head", metavar="SHA", help="verify: SHA-256 of an entry, noted earlier")
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

    report = verify_trail(registry, arguments.head)
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


def _show(folder: Path, arguments: argparse.Namespace) -> int:
    from collections import deque

    from hpctrain.registry.trail import FILE, Entry, read_trail

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
