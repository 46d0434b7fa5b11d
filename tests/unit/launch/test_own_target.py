"""A target of the user's own: by the name of its module or of an entry point, with the same rights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.launch.targets import target_of
from hpctrain.rundir import RunDir, write_json

ROOT = Path(__file__).resolve().parents[3]
PROFILE = """\
name: tiny
launch: {gpus_per_node: 0, cpus_per_rank: 1, cluster: CLUSTER}
data: {files: [made.h5], simulate: {num_spectra: 100}}
"""
TARGET = """\
from hpctrain.launch.targets.local import LocalTarget

class Batch(LocalTarget):
    name = "mine"
    requeues = "platform"
    is_this_machine = False

    def files(self, plan):
        return {"job.txt": f"{plan.name}: {plan.resources.world_size} ranks for {plan.time_limit_s} s"}

TARGET = Batch
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a package that holds a target, and offers it as an entry point too."""
    package = tmp_path / "site/my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "my_target.py").write_text(TARGET)
    (package / "empty.py").touch()
    facts = tmp_path / "site/my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[hpctrain.targets]\nmine = my_package.my_target:Batch\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def types(folder: Path, *words: str, cluster: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(PROFILE.replace("CLUSTER", cluster))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "site")])}
    command = [sys.executable, "-m", "hpctrain", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["my_package.my_target", "mine"])
def test_a_target_of_ones_own_is_named_in_the_profile(folder, name):
    done = types(folder, "submit", "tiny.yaml", "--dry-run", cluster=name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny: 1 ranks for 86400 s\n")
    assert f"on {name}, 1 nodes x 1 ranks would run" in done.stdout
    assert "/job.txt  (" in done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_package.nothing", "there is no module 'my_package.nothing'"),
        ("my_package.empty", "defines no TARGET"),
        (
            "nine",
            "must be one of auto, slurm, local, kubernetes, sagemaker, vertex, azureml, ray or the module of a target",
        ),
    ],
)
def test_a_target_that_cannot_be_used_is_a_problem_of_the_profile(folder, name, said):
    done = types(folder, "check", "tiny.yaml", "--no-memory", cluster=name)
    assert done.returncode == 2
    assert "line 2: launch.cluster: " in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_of_a_target_that_is_not_installed_is_read_from_its_directory(folder):
    run = RunDir.create(folder / "runs", "tiny")
    write_json(run.job, {"name": "tiny", "cluster": "not_here.target", "submissions": [{"job_id": "7"}]})
    assert target_of(run) is None
    done = types(folder, "status", str(run.path), cluster="local")
    assert done.returncode == 0, done.stderr
    done = types(folder, "cancel", str(run.path), cluster="local")
    assert "nothing to cancel" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_module_that_somebody_else_wrote_into_a_run_is_not_imported(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "planted").mkdir()
    (folder / "planted/module.py").write_text(f"from pathlib import Path\nPath({str(folder / 'imported')!r}).touch()\n")
    run = RunDir.create(folder / "runs", "tiny")
    write_json(run.job, {"name": "tiny", "cluster": "planted.module", "submissions": [{"job_id": "7"}]})
    os.chown(run.job, 12345, 12345)
    assert target_of(run) is None
    assert not (folder / "imported").exists()
    os.chown(run.job, 0, 0)
    target_of(run)
    assert (folder / "imported").exists()
