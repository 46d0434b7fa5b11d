"""Real Feast in an environment of its own, because it needs an older pandas than the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from own_environment import own_environment

FEAST = "feast>=0.67,<0.68"
"""A resolver without the lower bound takes a release of years ago."""


def ask_feast(repository: Path, code: str) -> str:
    """Register a repository with ``feast apply``, run some Python in its folder, and return what it prints."""
    python = own_environment("feast", FEAST, constrained=False, sees_ours=False)
    environment = {**os.environ, "FEAST_USAGE": "False"}
    environment.pop("PYTHONPATH", None)
    said = ""
    for command in ([str(python.with_name("feast")), "apply"], [str(python), "-c", code]):
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        said = done.stdout
    return said
