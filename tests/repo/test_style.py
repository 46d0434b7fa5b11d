"""The style is kept by ruff; where it stands is pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RUFF = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"


def _python_files() -> list[str]:
    """Return what git tracks, so that a half-written file beside it fails no test; scripts have no suffix."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    paths = [REPOSITORY / name for name in tracked.stdout.splitlines()]
    return [
        str(path) for path in paths if path.is_file() and (path.suffix in (".py", ".ipynb") or _is_python_script(path))
    ]


def _is_python_script(path: Path) -> bool:
    if path.suffix:
        return False
    with open(path, "rb") as stream:
        first_line = stream.readline(80)
    return first_line.startswith(b"#!") and b"python" in first_line


@pytest.mark.parametrize("arguments", [["check"], ["format", "--diff"]], ids=["check", "format"])
def test_ruff_has_nothing_to_say(arguments):
    done = subprocess.run([RUFF, *arguments, *_python_files()], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_test_file_shares_its_name_with_another():
    """Without packages in tests/, pytest can import only one module of a name."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_there_is_no_pickle_in_the_package():
    """Loading a pickle runs whatever its author wanted, unless torch reads nothing but tensors from it."""
    offenders = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in (REPOSITORY / "hpctrain").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if any(word in line for word in ("import pickle", "torch.load(", "allow_pickle=True", "joblib.load("))
        and "weights_only=True" not in line
    ]
    assert offenders == []


def test_no_text_has_the_marks_of_an_unfinished_merge():
    found = subprocess.run(
        ["git", "grep", "-nE", "^(<{7}|>{7}) "], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
