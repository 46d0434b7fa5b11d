"""A login node answers in a blink: what a check and a dry run import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "numpy", "h5py", "astropy", "scipy", "sklearn", "matplotlib", "rich", "pandas", "tensorboard")


@pytest.mark.parametrize(
    "command",
    [
        ["check", "quickstart.yaml", "--no-memory"],
        ["check", "quickstart.yaml", "--no-memory", "--set", "train.epoch=3"],
        ["submit", "quickstart.yaml", "--dry-run", "--cluster", "slurm"],
        ["schema"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(command: list[str]) -> None:
    """Import time is most of the time of a command; torch alone is 1.6 s."""
    code = (
        "import sys\n"
        "from hpctrain.cli import main\n"
        f"sys.argv = ['hpctrain', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY / "profiles", capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "heavy:", done.stderr
