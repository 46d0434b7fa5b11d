"""Every rule on its examples: a bad script, in which `#<<` marks the line, and a good one that resembles it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctrain.lint.check import RULES, check, read

EXAMPLES = Path(__file__).parent / "examples"
BAD = sorted(EXAMPLES.glob("*.bad.sbatch"))
GOOD = sorted(EXAMPLES.glob("*.good.sbatch"))


def rule_of(path: Path) -> str:
    name = path.name.partition(".")[0]
    return name if name in RULES else name.rpartition("-")[0]


def marked_line(path: Path) -> int:
    """Return the line with the mark ``#<<``, or the one below ``#vv`` (a continued line can have no mark), or 1."""
    rows = path.read_bytes().decode().splitlines()
    return next((number + (row == "#vv") for number, row in enumerate(rows, 1) if row == "#vv" or "#<<" in row), 1)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_rule_finds_its_trap_in_the_marked_line(path):
    lines = [each.line for each in check(read(path)) if each.rule.name == rule_of(path)]
    assert lines == [marked_line(path)]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_a_rule_is_silent_about_a_good_script(path):
    assert [each for each in check(read(path)) if each.rule.name == rule_of(path)] == []


def test_every_rule_has_a_bad_and_a_good_example():
    assert {rule_of(path) for path in BAD} == {rule_of(path) for path in GOOD} == RULES.keys()


def test_every_rule_says_what_why_and_how_in_sentences():
    for rule in RULES.values():
        assert rule.why.endswith((".", '"')), rule.name
        assert rule.fix.endswith("."), rule.name
        assert not rule.what.endswith("."), rule.name
