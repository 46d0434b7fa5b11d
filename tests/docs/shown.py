"""The commands that a page of the documentation shows, with the lines that it shows below them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from hpctrain.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
MADE_FROM_CODE = {"commands.md", "profile.md", "python-reference.md", "exit-codes.md", "events.md"}
"""Pages that the code writes about itself; their commands are the help of the commands."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?:    [^\n]*)?\n)+", re.MULTILINE)
_COMMAND = re.compile(
    r"(?:\$ )?((?:hpctrain|hpc-submit|bin/hpc-submit|sbatch|make|python -m (?:hpctrain|benchmarks)\S*)(?: .*|$))"
)
_OPTIONAL = re.compile(r" \[[^\]']*\](?= |$)")
_COMMENT = re.compile(r"(?:\s+# |\s{3,})(?=\S).*$")


@dataclass(frozen=True)
class Shown:
    """A command of a page.

    Parameters
    ----------
    page : str
        Name of the page.
    line : int
        Its line there, from 1.
    command : str
        The command alone, on one line.
    answer : tuple of str
        Lines that the page shows as its answer.
    """

    page: str
    line: int
    command: str
    answer: tuple[str, ...] = ()

    @property
    def parts(self) -> list[list[str]]:
        """The words of the command, and of those after ``&&``; without what is optional, and what the shell does."""
        parts: list[list[str]] = [[]]
        for word in shlex.split(_OPTIONAL.sub(" ", self.command)):
            if word == "&&":
                parts.append([])
            elif word in (">", ">>", "<"):
                break
            else:
                parts[-1].append(word)
        return parts


def pages() -> list[Path]:
    """Return the pages that people write, and the README."""
    return [REPOSITORY / "README.md", *(path for path in sorted(DOCS.glob("*.md")) if path.name not in MADE_FROM_CODE)]


def shown_commands(path: Path) -> list[Shown]:
    """Return the commands in the blocks of a page, in their order."""
    text = path.read_text(encoding="utf-8")
    blocks = [
        (found.start(2), found[2]) for found in _FENCED.finditer(text) if found[1] in ("", "sh", "bash", "console")
    ]
    without = _FENCED.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)
    blocks += [
        (found.start(), re.sub(r"(?m)^    ", "", found[0])) for found in _INDENTED.finditer(without) if found[0].strip()
    ]
    found = [
        each
        for start, block in sorted(blocks)
        for each in _commands_of(path.name, text.count("\n", 0, start) + 1, block)
    ]
    return found


def python_blocks(path: Path) -> list[str]:
    """Return the blocks of Python of a page."""
    return [found[2] for found in _FENCED.finditer(path.read_text(encoding="utf-8")) if found[1] == "python"]


def _commands_of(page: str, first_line: int, block: str) -> list[Shown]:
    lines = block.split("\n")
    has_prompt = any(line.startswith("$ ") for line in lines)
    found: list[Shown] = []
    number = 0
    while number < len(lines):
        here, line = number, lines[number]
        while line.endswith("\\") and number + 1 < len(lines):
            number += 1
            line = line[:-1].rstrip() + " " + lines[number].strip()
        number += 1
        command = _COMMAND.fullmatch(line)
        if command and line.startswith("$ ") == has_prompt and _is_command(command[1]):
            found.append(Shown(page, first_line + here, _COMMENT.sub("", command[1]).strip()))
        elif has_prompt and found and line.strip() and not line.startswith("$ "):
            last = found.pop()
            found.append(Shown(last.page, last.line, last.command, (*last.answer, line)))
    return found


def _is_command(line: str) -> bool:
    """Whether a line is a command; a sentence may begin with the name of the project, too."""
    words = line.split()
    return words[0] != "hpctrain" or words[1:2] == [] or words[1].startswith("-") or words[1] in COMMANDS
