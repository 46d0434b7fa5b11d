"""Texts say who does what, in plain words: no turns of phrase over which readers of this project have stumbled."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

RIDDLES = {
    r"goodbye": "ended without a final record",
    r"in vain": "could not ask",
    r"passed over": "skipped",
    r"left alone": "not requeued, unchanged, undisturbed",
    r"for want of": "without, because there is no",
    r"bears?": "tolerates, handles",
    r"(?:is|are|was|were|be|been) told": "is notified, reported",
    r"tells? (?:for|of)": "reports",
    r"(?:told|tells?) by (?:this|the|a) (?:machine|device|board)": "the machine does not report it",
    r"put to (?:the )?test": "tested",
    r"hangs? on (?:it|them|that)": "depends on",
    r"mend(?:s|ed|ing)?": "fix",
    r"needed no more": "no longer needed",
    r"pushe[sd] out": "pre-empts",
    r"the whole way": "end to end",
    r"leaves? with (?:code )?\d+": "exits with",
    r"stands? (?:twice|above|beside it|in the way)": "is",
    r"is no (?:run|proof|second|error of)": "is not a",
    r"says (?:squeue|supervisor|sacct|scontrol)": "according to squeue",
    r"speaks? of": "is about",
    r"(?:nothing|nobody) (?:of it )?has to stay alive": "you may log out",
}
"""Pattern to a plainer wording."""

RIDDLE = re.compile(r"\b(?:" + "|".join(RIDDLES) + r")\b", re.IGNORECASE)

DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "CITATION.cff",
    REPOSITORY / "Makefile",
    *sorted(path for path in REPOSITORY.glob("docs/**/*.md")),
    *sorted(path for folder in ("slurm", "profiles") for path in REPOSITORY.glob(f"{folder}/**/*") if path.is_file()),
]
CODE = sorted(path for folder in ("hpctrain", "benchmarks") for path in REPOSITORY.glob(f"{folder}/**/*.py"))


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document; of code, those of comments and string literals, docstrings included."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), start=1)
        return
    literals = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING), tokenize.COMMENT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in literals:
            yield from enumerate(token.string.splitlines(), start=token.start[0])


def riddles_in(path: Path, root: Path = REPOSITORY) -> list[str]:
    name = path.relative_to(root)
    return [
        f"{name}:{number}: {found[0]!r} in: {line.strip()[:100]}"
        for number, line in prose_of(path)
        if (found := RIDDLE.search(line))
    ]


def test_documents_profiles_and_job_scripts_are_in_plain_english():
    assert [riddle for path in DOCUMENTS for riddle in riddles_in(path)] == []


def test_docstrings_comments_and_messages_are_in_plain_english():
    assert [riddle for path in CODE for riddle in riddles_in(path)] == []


@pytest.mark.parametrize(
    "line", ["# Rank 0 tells for all ranks", '"""Not every layer bears it."""', 'print(f"passed over {count} files")']
)
def test_a_riddle_in_a_comment_a_docstring_or_a_message_is_found(line, tmp_path):
    (tmp_path / "module.py").write_text(f"count = 1\n{line}\n")
    assert riddles_in(tmp_path / "module.py", tmp_path)[0].startswith("module.py:2: ")
