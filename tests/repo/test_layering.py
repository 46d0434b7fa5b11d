"""Arrows point down only, and a login node never loads torch (see .importlinter)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_import_contracts_are_kept():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def _imported_by(statement: str, cwd: Path) -> tuple[set[str], str]:
    """Run `statement` in a fresh interpreter; return the modules it loaded and what it printed."""
    code = f"import sys\n{statement}\nprint('MODULES', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    printed, marker, modules = done.stdout.rpartition("MODULES")
    assert marker, done.stdout + done.stderr
    return set(modules.split()), printed + done.stderr


QUICKSTART = str(REPOSITORY / "profiles" / "quickstart.yaml")
HPC = str(REPOSITORY / "profiles" / "hpc.yaml")


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        (["check", HPC, "--help"], 0),
        pytest.param(["check", QUICKSTART], 0, marks=pytest.mark.slow),
        (["render", QUICKSTART, "--cluster", "slurm"], 0),
        (["submit", QUICKSTART, "--dry-run", "--cluster", "slurm"], 0),
        (["submit", HPC, "--dry-run", "--cluster", "slurm"], 2),  # there are no data here
        (["submit", QUICKSTART, "--dry-run", "--cluster", "local"], 0),
        (["list"], 0),
        (["platforms"], 0),
        (["status", "no-such-run"], 2),
        (["report", "no-such-run"], 2),
        (["monitor", "no-such-run"], 2),
        (["monitor", "--sensors"], 0),
        (["encode", "--help"], 0),
    ],
    ids=lambda value: " ".join(map(str, value)).replace(f"{REPOSITORY}/", "") if isinstance(value, list) else "",
)
def test_what_runs_on_a_login_node_never_imports_torch(arguments, exit_code, tmp_path):
    """Importing torch takes 1.6 s of CPU where many people share two cores."""
    statement = (
        f"from hpctrain.cli import main\ntry:\n    code = main({arguments!r})\n"
        "except SystemExit as error:\n    code = error.code\nprint('CODE', code)"
    )
    modules, printed = _imported_by(statement, tmp_path)
    assert f"CODE {exit_code}\n" in printed, printed
    assert not modules & {"torch", "lightning", "sklearn", "matplotlib"}


def test_the_package_itself_imports_nothing_heavy(tmp_path):
    modules, _ = _imported_by("import hpctrain, hpctrain.cli, hpctrain.errors, hpctrain.rundir", tmp_path)
    assert not modules & {"numpy", "h5py", "pydantic", "yaml", "rich", "astropy", "submitit"}
