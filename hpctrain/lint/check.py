"""Look through a batch script with all rules, less those that are switched off."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import hpctrain.lint.rules
from hpctrain.errors import Problem, ProfileError
from hpctrain.lint.rule import LEVELS, RULES, Finding, Rule
from hpctrain.lint.script import BatchScript

LARGEST_BYTES = 1 << 16
"""Size of the largest script to read: what is larger holds data."""
_SWITCH = re.compile(r"#\s*hpctrain-lint:\s*disable=([\w,-]+)")


def _look_for_nothing(script: BatchScript) -> list[tuple[int, str]]:
    return []


UNKNOWN_RULE = Rule(
    "unknown-rule",
    "This command",
    "warning",
    "a comment that switches off a rule that does not exist",
    "The rule that was meant still reports, or has another name by now.",
    "Correct the name; `hpctrain lint --list` prints all.",
    _look_for_nothing,
)
RULES.setdefault(UNKNOWN_RULE.name, UNKNOWN_RULE)
assert hpctrain.lint.rules is not None  # imported for its effect: it fills RULES


def read(path: Path) -> BatchScript:
    """Return a batch script.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ProfileError
        If the file cannot be read, is too large, or is no text.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ProfileError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from error
    if len(content) > LARGEST_BYTES or b"\0" in content:
        what = "is larger than 64 KiB" if len(content) > LARGEST_BYTES else "holds zero bytes"
        raise ProfileError(str(path), [Problem("", f"{what}; give batch scripts, which are text")])
    return BatchScript(content.decode("utf-8", "replace"), path)


def check(script: BatchScript, disabled: Collection[str] = ()) -> list[Finding]:
    """Return what the rules find, by line.

    A comment ``# hpctrain-lint: disable=RULE,RULE`` on a line of its own switches rules off for the whole file, at the
    end of a line for this line.

    Parameters
    ----------
    script : BatchScript
    disabled : collection of str
        Names of rules that are not looked at.
    """
    of_file, of_line, unknown = _switches(script)
    found = [Finding(UNKNOWN_RULE, line, f"there is no rule {name!r}") for line, name in unknown]
    for rule in RULES.values():
        if rule.name in disabled or rule.name in of_file:
            continue
        hits = sorted(set(rule.look(script)))
        found += [Finding(rule, line, text) for line, text in hits if rule.name not in of_line.get(line, ())]
    found = [each for each in found if each.rule.name not in disabled]
    return sorted(found, key=lambda each: (each.line, -LEVELS.index(each.rule.level), each.rule.name))


def _switches(script: BatchScript) -> tuple[set[str], dict[int, set[str]], list[tuple[int, str]]]:
    """Return the rules that comments switch off in the file and on single lines, and the names that are no rules."""
    of_file: set[str] = set()
    of_line: dict[int, set[str]] = {}
    unknown = []
    for number, row in enumerate(script.lines, 1):
        if found := _SWITCH.search(row):
            names = set(filter(None, found[1].split(",")))
            unknown += [(number, name) for name in sorted(names - RULES.keys())]
            if row.lstrip().startswith("#") and not row.startswith("#SBATCH"):
                of_file |= names
            else:
                of_line[number] = names
    return of_file, of_line, unknown


def fixed(script: BatchScript) -> tuple[str, list[str]]:
    """Return the text of a script without the traps that have one safe remedy, and the names of their rules.

    Parameters
    ----------
    script : BatchScript
    """
    found = {each.rule.name: each for each in check(script)}
    text, names = script.text, []
    if "carriage-return" in found:
        text = text.replace("\r\n", "\n")
        names.append("carriage-return")
    truncates = found.get("requeue-truncates-log")
    if truncates and script.option("open-mode") is None and script.header.options:
        rows = text.split("\n")
        rows.insert(script.header.options[-1].line, "#SBATCH --open-mode=append" + "\r" * rows[0].endswith("\r"))
        text = "\n".join(rows)
        names.append("requeue-truncates-log")
    return text, names
