"""Environments of their own for packages that tests need and that do not install beside ``constraints.txt``.

The first test that needs one makes it; it is kept below ``.cache/`` of the checkout, or below ``$HPCTRAIN_TEST_CACHE``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Return the folder of what later sessions use again."""
    given = os.environ.get("HPCTRAIN_TEST_CACHE")
    return Path(given) if given else REPOSITORY / ".cache"


def own_environment(name: str, *packages: str, constrained: bool = True, sees_ours: bool = True) -> Path:
    """Return the Python of an environment with some packages; skip the test if it cannot be made.

    Parameters
    ----------
    name : str
        Of the environment; the version of Python is added.
    packages : str
        As pip takes them; give each a lower bound.
    constrained : bool
        Whether our ``constraints.txt`` holds for them too.
    sees_ours : bool
        Whether the packages of the tests' own environment, hpctrain among them, can be imported there too. Those of the
        environment itself come first.
    """
    folder = cache_folder() / "{}-{}.{}".format(name, *sys.version_info)
    python = folder / "bin/python"
    wanted = "\n".join(packages)
    if (folder / "made").exists() and (folder / "made").read_text() == wanted:
        return python
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), ".ci/install.py", *(["--constraint", "constraints.txt"] if constrained else []), *packages],
    ]
    for command in steps:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"an environment with {name} cannot be made: {(done.stderr or done.stdout)[-500:]}")
    if sees_ours:
        (path,) = folder.glob("lib/python*/site-packages")
        (path / "of-the-tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (folder / "made").write_text(wanted)
    return python
