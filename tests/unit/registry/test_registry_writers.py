"""Writers that are killed before any call that changes the disk, and many writers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hpctrain

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(HERE.parents[1]), str(Path(hpctrain.__file__).parents[1])])


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kills", "crowd"])
def test_versions_aliases_and_trail_survive(what, tmp_path):
    command = [sys.executable, str(HERE / "killed_writers.py"), str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PATH}, check=False)
    assert done.returncode == 0, done.stderr
    numbers = [int(word) for word in done.stdout.split()]
    assert min(numbers) > 10
