"""Real Feast in an environment of its own, because it needs an older pandas than the tests.

The environment is made by the first test that needs it and kept below ``.cache/`` of the checkout, or below
``$HPCTRAIN_TEST_CACHE``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FEAST = "feast>=0.67,<0.68"
"""A resolver without this bound takes a release of years ago."""


def feast_python() -> Path:
    """Return the Python of an environment with Feast; skip the test if it cannot be made."""
    given = os.environ.get("HPCTRAIN_TEST_CACHE")
    folder = (Path(given) if given else REPOSITORY / ".cache") / "feast-{}.{}".format(*sys.version_info)
    python = folder / "bin/python"
    if (folder / "made").exists():
        return python
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), ".ci/install.py", FEAST],
    ]
    for command in steps:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"an environment with Feast cannot be made: {(done.stderr or done.stdout)[-500:]}")
    (folder / "made").touch()
    return python


def ask_feast(repository: Path, code: str) -> str:
    """Register a repository with ``feast apply``, run some Python in its folder, and return what it prints."""
    python = feast_python()
    environment = {**os.environ, "FEAST_USAGE": "False", "IS_TEST": "True"}
    environment.pop("PYTHONPATH", None)
    said = ""
    for command in ([str(python.with_name("feast")), "apply"], [str(python), "-c", code]):
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        said = done.stdout
    return said
