"""Read the ``#SBATCH`` lines of a script as sbatch does: options, their values, and lines that sbatch does not read."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "c": "cpus-per-task",
    "C": "constraint",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "G": "gpus",
    "i": "input",
    "J": "job-name",
    "L": "licenses",
    "M": "clusters",
    "m": "distribution",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "S": "core-spec",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
    "B": "extra-node-info",
    "F": "nodefile",
}
"""Short options of sbatch that take a value."""
SHORT_FLAGS = {"H": "hold", "h": "help", "I": "immediate", "k": "no-kill", "O": "overcommit", "Q": "quiet"} | {
    "s": "oversubscribe",
    "v": "verbose",
    "V": "version",
    "W": "wait",
}
FLAGS = {
    *("contiguous", "exclusive", "get-user-env", "help", "hold", "ignore-pbs", "kill-on-invalid-dep", "no-kill"),
    *("no-requeue", "overcommit", "oversubscribe", "parsable", "propagate", "quiet", "reboot", "requeue", "share"),
    *(
        "spread-job",
        "test-only",
        "usage",
        "use-min-nodes",
        "verbose",
        "version",
        "wait",
        "nice",
        "immediate",
        "stepmgr",
    ),
}
"""Long options that need no value."""
VALUED = {
    *SHORT.values(),
    *("acctg-freq", "batch", "bb", "bbf", "cluster", "cluster-constraint", "comment", "container", "container-id"),
    *("cores-per-socket", "cpu-freq", "cpus-per-gpu", "deadline", "delay-boot", "export", "export-file", "extra"),
    *("gid", "gpu-bind", "gpu-freq", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags"),
    *("hint", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus"),
    *("network", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "open-mode", "power"),
    *(
        "prefer",
        "priority",
        "profile",
        "reservation",
        "resv-ports",
        "segment",
        "signal",
        "sockets-per-node",
        "switches",
    ),
    *("tasks-per-node", "thread-spec", "threads-per-core", "time-min", "tmp", "tres-bind", "tres-per-task", "uid"),
    *(
        "umask",
        "wait-all-nodes",
        "wckey",
        "wrap",
        "workdir",
        "oom-kill-step",
        "mem_bind",
        "cpu-bind",
        "consolidate-segments",
    ),
}
ALIASES = {"tasks-per-node": "ntasks-per-node", "workdir": "chdir", "share": "oversubscribe", "cluster": "clusters"}


@dataclass(frozen=True)
class Option:
    """One option of an ``#SBATCH`` line.

    Parameters
    ----------
    name : str
        The long name, without dashes; as written if sbatch has no such option.
    value : str or None
        Its value; None if it has none.
    line : int
    raw : str
        As it is written.
    is_known : bool
        Whether sbatch of Slurm 22.05 to 25.05 has it.
    """

    name: str
    value: str | None
    line: int
    raw: str
    is_known: bool = True


@dataclass(frozen=True)
class Header:
    """What sbatch reads, and what looks as if it did.

    Parameters
    ----------
    options : list of Option
    late : list of (int, str)
        Line and text of ``#SBATCH`` lines after the first command: sbatch ignores them.
    malformed : list of (int, str)
        Lines that look like ``#SBATCH`` lines and are comments.
    end : int
        Line of the first command.
    """

    options: list[Option]
    late: list[tuple[int, str]]
    malformed: list[tuple[int, str]]
    end: int


_ALMOST = re.compile(r"(\s+#SBATCH|#\s+SBATCH|#(?!SBATCH)(?i:sbatch))\s+-")
_PLACEHOLDER = re.compile(r"\{\{?[\w. ]+\}?\}|\{%.*%\}|<[^>]+>")
"""A line of a template, which becomes ``#SBATCH`` lines."""


def read_header(lines: list[str]) -> Header:
    """Return the options of a script.

    Parameters
    ----------
    lines : list of str
        Its lines, without line breaks.
    """
    header = Header([], [], [], next((n for n, row in enumerate(lines, 1) if _is_command(row)), len(lines) + 1))
    for number, row in enumerate(lines, 1):
        if row.startswith("#SBATCH") and row[7:8] in ("", " ", "\t"):
            if number > header.end:
                header.late.append((number, row))
            else:
                header.options.extend(_options(row[7:], number))
        elif number < header.end and _ALMOST.match(row):
            header.malformed.append((number, row))
    return header


def _is_command(row: str) -> bool:
    stripped = row.strip()
    return bool(stripped) and not stripped.startswith("#") and not _PLACEHOLDER.fullmatch(stripped)


def _options(text: str, line: int) -> list[Option]:
    words, at, found = _words(text), 0, []
    while at < len(words):
        word = words[at]
        at += 1
        following = words[at] if at < len(words) and not words[at].startswith("-") else None
        if word.startswith("--"):
            option, used = _long(word, following, line)
        elif len(word) > 1 and word.startswith("-"):
            option, used = _short(word, following, line)
        else:
            continue
        at += used
        found.append(option)
    return found


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        return list(lexer)
    except ValueError:  # an unclosed quote
        return text.split()


def _long(word: str, following: str | None, line: int) -> tuple[Option, int]:
    name, equals, value = word[2:].partition("=")
    is_known = name in FLAGS or name in VALUED
    if not is_known:  # sbatch takes any beginning of a name that is unambiguous
        begins = sorted(each for each in FLAGS | VALUED if each.startswith(name))
        if len(begins) == 1:
            name, is_known = begins[0], True
    takes_next = not equals and name not in FLAGS and following is not None
    given = value if equals else following if takes_next else None
    raw = f"{word} {following}" if takes_next else word
    return Option(ALIASES.get(name, name), given, line, raw, is_known), int(takes_next)


def _short(word: str, following: str | None, line: int) -> tuple[Option, int]:
    letter, rest = word[1], word[2:]
    if letter in SHORT_FLAGS:
        return Option(SHORT_FLAGS[letter], rest or None, line, word), 0
    takes_next = not rest and following is not None
    raw = f"{word} {following}" if takes_next else word
    value = following if takes_next else rest.removeprefix("=") or None
    return Option(SHORT.get(letter, letter), value, line, raw, letter in SHORT), int(takes_next)
