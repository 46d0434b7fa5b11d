"""Look for traps in batch scripts of Slurm, of any program: before the job waits a day and fails in a second.

hpctrain lint train.sbatch                    findings with line, reason and fix
hpctrain lint scripts/*.sh --fail-on error    for CI; by default warnings fail, too, and notes do not
hpctrain lint train.sbatch --disable no-signal
hpctrain lint --explain rank-read-too-early   one rule in words; --list prints all
hpctrain lint train.sbatch --format sarif > lint.sarif

A comment "# hpctrain-lint: disable=RULE" on a line of its own switches a rule off in the file, at the end of a line on
this line. The scripts are only read: no command of them runs. Exit code 0: nothing of the level of --fail-on or above;
7: findings (a gate that the script does not pass); 2: a wrong option, or a file that cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import GateError, Problem, ProfileError
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.lint.script import BatchScript


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain lint``."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="batch scripts")
    parser.add_argument("--format", choices=["text", "json", "sarif"], default="text", help="default: text")
    parser.add_argument(
        "--disable", action="append", default=[], metavar="RULE", help="do not look for it; several by commas"
    )
    parser.add_argument(
        "--fail-on", choices=["note", "warning", "error"], default="warning", help="lowest level of exit code 7"
    )
    parser.add_argument("--explain", metavar="RULE", help="print why a rule exists, and the fix")
    parser.add_argument("--list", action="store_true", help="print the names of all rules")
    parser.add_argument(
        "--fix", action="store_true", help="correct line breaks of DOS and a missing --open-mode=append"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the scripts and print what the rules find."""
    from hpctrain.lint.check import check, read
    from hpctrain.lint.written import as_json, as_sarif, as_text

    disabled = _rules([name for given in arguments.disable for name in given.split(",")], "--disable")
    if arguments.explain or arguments.list:
        return _explain(arguments)
    if not arguments.files:
        raise ProfileError("hpctrain lint", [Problem("FILE", "name the batch scripts to read")])
    scripts = [read(path) for path in arguments.files]
    if arguments.fix:
        scripts = [_fix(script) for script in scripts]
    found = {path: check(script, disabled) for path, script in zip(arguments.files, scripts, strict=True)}
    if arguments.format == "text":
        print(printable(as_text(found)))
    else:
        print(json.dumps(as_json(found) if arguments.format == "json" else as_sarif(found), indent=2))
    return _code(found, arguments.fail_on)


def _code(found: dict, lowest: str) -> int:
    from hpctrain.lint.rule import LEVELS

    levels = LEVELS[LEVELS.index(lowest) :]
    return GateError.exit_code if any(each.rule.level in levels for all_ in found.values() for each in all_) else 0


def _rules(names: list[str], option: str) -> list[str]:
    import difflib

    from hpctrain.lint.check import RULES

    problems = []
    for name in names:
        if name not in RULES:
            near = difflib.get_close_matches(name, RULES, n=1)
            hint = f"did you mean {near[0]}?" if near else "hpctrain lint --list prints all"
            problems.append(Problem(option, f"there is no rule {name!r}; {hint}"))
    if problems:
        raise ProfileError("hpctrain lint", problems)
    return names


def _explain(arguments: argparse.Namespace) -> int:
    from hpctrain.lint.check import RULES
    from hpctrain.lint.page import explain

    if arguments.list:
        width = max(map(len, RULES))
        for rule in RULES.values():
            print(f"{rule.name:<{width}}  {rule.level:<7}  {rule.what}")
    else:
        print(explain(RULES[_rules([arguments.explain], "--explain")[0]]))
    return 0


def _fix(script: BatchScript) -> BatchScript:
    from hpctrain.lint.check import fixed, read

    text, names = fixed(script)
    path = script.path
    if path is None or not names:
        return script
    with open(path, "r+b") as stream:  # in place: owner, permissions and links remain
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.truncate()
    print(printable(f"{path}: fixed {', '.join(names)}"), file=sys.stderr)
    return read(path)
