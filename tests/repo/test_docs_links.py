"""What the documents name exists: files they link to, commands and options they show, profiles and make targets."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hpctrain import errors
from hpctrain.cli import COMMANDS
from hpctrain.errors import GateError

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
HELP = REPOSITORY / "docs" / "commands.md"  # its code is the help itself, which is prose
TYPED_INTO = [path for path in DOCUMENTS if path != HELP]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = re.compile(r"(?:src|href)=\"([^\"]+)\"")
NAMED_FILE = re.compile(r"`((?:hpctrain|docs|profiles|slurm|bin|benchmarks|tests|\.ci)/[\w./-]*[\w/])`")
EXIT_CODES = {value for name, value in vars(errors).items() if name.startswith("EXIT_")} | {
    value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")
}
COMMAND = re.compile(r"(?<![\w./-])hpctrain ([a-z]+(?:-[a-z]+)*)\b")


def ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def headings(path: Path) -> set[str]:
    """Return the anchors GitHub makes of the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def help_of(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "hpctrain", *command, "--help"], capture_output=True, text=True)
    return done.stdout


SUBCOMMANDS = {
    "ingest": ("sdss", "desi", "lamost", "multimodal", "parquet", "fits", "hdf5", "table", "any", "light-curves"),
    "data": ("doctor", "repack", "join", "expect", "validate", "verify"),
}


def help_of_line(command: str, rest: str) -> str:
    """Return the help of a command, and of its subcommand where it is one such as ``hpctrain ingest SURVEY``."""
    second = next(iter(rest.split()), "")
    return help_of(command) + (help_of(command, second) if second in SUBCOMMANDS.get(command, ()) else "")


def code_lines(path: Path) -> list[str]:
    """Return what stands in code: fenced blocks with continued lines joined, and spans between back-ticks."""
    text = path.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + spans


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_relative_link_leads_somewhere(path):
    broken = []
    for target in [*LINK.findall(path.read_text()), *SOURCE.findall(path.read_text())]:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_every_file_named_in_a_document_exists(path):
    missing = {name for name in NAMED_FILE.findall(path.read_text()) if not (REPOSITORY / name).exists()}
    assert missing == set()


@pytest.mark.parametrize("path", TYPED_INTO, ids=ids)
def test_every_command_and_option_shown_exists(path):
    wrong = []
    for line in code_lines(path):
        line = line.partition("  #")[0]
        for command in COMMAND.findall(line):
            if command not in COMMANDS:
                wrong.append(f"hpctrain {command}")
        shown = re.search(
            r"(?<![\w./-])(?:(?:bin/)?hpctrain ([a-z]+(?:-[a-z]+)*)|(?:bin/)?(hpc-submit))\b([^|;&#]*)", line
        )
        command = shown and (shown[1] or "submit")
        if command in COMMANDS:
            options = re.findall(r"(?<=\s)(--[a-z][a-z-]*)", shown[3])
            wrong += [f"{command} {option}" for option in options if option not in help_of_line(command, shown[3])]
    assert wrong == []


@pytest.mark.parametrize("path", TYPED_INTO, ids=ids)
def test_every_make_target_shown_exists(path):
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {target for line in code_lines(path) for target in re.findall(r"^\$? ?make ([a-z]+)", line)}
    assert shown <= targets


def test_every_document_is_reached_from_the_readme():
    seen, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        links = LINK.findall(path.read_text())
        waiting += [(path.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    assert sorted(set((REPOSITORY / "docs").rglob("*.md")) - seen) == []


def test_the_resume_check_that_is_shown_is_as_it_was_written():
    from hpctrain.verify.certificate import check_tables

    shown = list(check_tables((REPOSITORY / "docs" / "verify-resume.md").read_text()))
    assert shown == [("Resume check of `quickstart`: identical", True)]


@pytest.mark.parametrize("name", ["docs/administrators.md", "docs/requeue.md", "slurm/README.md"])
def test_every_exit_code_of_a_job_has_a_row_in_the_table(name):
    cells = re.findall(r"^\| (\d[\d, ]*) \|", (REPOSITORY / name).read_text(), flags=re.MULTILINE)
    assert {int(number) for cell in cells for number in re.findall(r"\d+", cell)} >= EXIT_CODES - {GateError.exit_code}


def test_every_exit_code_is_on_the_page_of_training_and_in_the_help():
    stopping = (REPOSITORY / "docs" / "training.md").read_text().partition("## Stopping")[2].partition("\n## ")[0]
    for text in (stopping, help_of().partition("Exit codes:")[2]):
        assert {int(number) for number in re.findall(r"\b\d+\b", text)} >= EXIT_CODES
