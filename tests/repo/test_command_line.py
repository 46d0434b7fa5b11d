"""Whatever a user types first, the answer helps: other words, a Python without the packages, an old Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.cli import COMMANDS, OTHER_WORDS

REPOSITORY = Path(__file__).resolve().parents[2]


def types(*words: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "hpctrain", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("train", "hpc-submit PROFILE"),
        ("resume", "hpc-submit --resume RUN"),
        ("draw", "hpctrain plot RUN"),
        ("statsu", "did you mean 'status'?"),
        ("my.yaml", "hpc-submit my.yaml"),
        ("xyzzy", "there are init, new, check, render"),
    ],
)
def test_a_word_that_is_no_command_is_answered_with_the_one_that_is(word, said):
    done = types(word)
    assert done.returncode == 2
    assert done.stderr.startswith(f"hpctrain: no command '{word}'; ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_word_is_both_a_command_and_not_one():
    assert not OTHER_WORDS.keys() & COMMANDS.keys()


@pytest.mark.parametrize("command", [("check", "profiles/quickstart.yaml"), ("submit", "profiles/quickstart.yaml")])
def test_a_python_without_the_packages_is_one_clear_error(command):
    done = types(*command, python=("-S",))  # no site-packages
    assert done.returncode == 3, done.stderr
    assert "is not installed for" in done.stderr
    assert f"-m pip install {REPOSITORY}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["bin/hpctrain", "bin/hpc-submit", "hpctrain/__main__.py", "hpctrain/__init__.py"])
def test_an_old_python_can_read_the_file_that_says_which_python_is_needed(name):
    tree = ast.parse((REPOSITORY / name).read_text(encoding="utf-8"), feature_version=(3, 4))
    new = (ast.JoinedStr, ast.NamedExpr, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    lists = [node for node in ast.walk(tree) if isinstance(node, (ast.List, ast.Tuple, ast.Set))]
    assert not [node for node in lists if any(isinstance(item, ast.Starred) for item in node.elts)]


@pytest.mark.slow
def test_values_of_set_are_typed_in_the_same_way_everywhere():
    """Several may follow one --set, --set may be given again, a profile may stand behind them."""
    profile = str(REPOSITORY / "profiles" / "quickstart.yaml")
    wrong = ("--set", "train.epoch=1", "train.seeds=2", "--set", "train.foo=3")
    for words in (
        ("check", "--no-memory", profile, *wrong),
        ("check", "--no-memory", *wrong, profile),
        ("submit", "--dry-run", *wrong, profile),
        ("render", *wrong, profile),
        ("local", "--no-memory", *wrong, profile),
        ("verify-resume", *wrong, profile),
    ):
        done = types(*words)
        assert done.returncode == 2, words
        for key in ("train.epoch:", "train.seeds:", "train.foo:"):
            assert key in done.stderr, (words, done.stderr)
