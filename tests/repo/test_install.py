"""What an installation of this checkout can do: an editable one from any folder, a wheel without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from installation import REPOSITORY, Installation, build, copy_of_the_checkout

from hpctrain import __version__


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_checkout(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def editable(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("editable") / "venv", build(clone, "editable"))


@pytest.fixture(scope="module")
def installed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    wheel = build(clone, "wheel")
    shutil.rmtree(clone / "build", ignore_errors=True)
    return Installation(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.mark.slow
def test_the_package_imports_from_the_folder_that_contains_the_clone(editable, clone):
    """There, a folder named hpctrain lies in the current directory and is not the package."""
    code = "import hpctrain; print(hpctrain.__version__, hpctrain.__file__)"
    for folder in (clone.parent, clone, clone / "docs"):
        done = editable.run("python", "-c", code, cwd=folder)
        assert done.stdout.split() == [__version__, str(clone / "hpctrain" / "__init__.py")], done.stderr
    assert editable.run("python", "-m", "hpctrain", "--version", cwd=clone.parent).stdout == f"hpctrain {__version__}\n"
    done = editable.run("python", "-m", "hpctrain.local", "--help", cwd=clone.parent)
    assert done.stdout.startswith("usage: python -m hpctrain.local"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", [".", ".."])
def test_folders_of_data_in_the_clone_hide_no_package(editable, clone, where):
    for name in ("spectra", "models", "train"):
        (clone / name).mkdir(exist_ok=True)
    code = "import hpctrain.samples.split, hpctrain.families.store, hpctrain.train; print(hpctrain.train.__path__[0])"
    done = editable.run("python", "-c", code, cwd=clone / where)
    assert done.stdout.strip() == str(clone / "hpctrain" / "train"), done.stderr


@pytest.mark.slow
def test_a_wheel_holds_profiles_sites_schema_job_script_and_lab(installed, tmp_path):
    listed = installed.run("hpctrain", "init", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert {line.partition(" ")[0] for line in listed.stdout.splitlines()} >= {"hpc", "jetson", "quickstart"}
    for name in ("quickstart", "workstation", "site", "job-script"):
        done = installed.run("hpctrain", "init", name, "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"quickstart/schema.json", "workstation/hpc.yaml", "site/site.yaml", "job-script/train_hpc.sh"} <= written
    for path in ("quickstart.yaml", "schema.json"):
        assert (tmp_path / "quickstart" / path).read_text() == (REPOSITORY / "profiles" / path).read_text()
    assert (tmp_path / "job-script/train_hpc.sh").read_text() == (REPOSITORY / "slurm/train_hpc.sh").read_text()


@pytest.mark.slow
def test_a_wheel_works_without_the_checkout(installed, tmp_path):
    where = installed.run("python", "-c", "import hpctrain; print(hpctrain.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(installed.bin.parent))
    for command in (
        ["hpctrain", "init", "quickstart"],
        ["hpctrain", "check", "quickstart.yaml", "--no-memory"],
        ["hpctrain", "schema"],
        ["hpctrain", "demo", "--help"],
        ["hpctrain", "lab", "up", "--help"],
    ):
        done = installed.run(*command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    script = installed.run("hpc-submit", "quickstart.yaml", "--dry-run", "--cluster", "slurm", cwd=tmp_path)
    assert script.stdout.startswith("#!/bin/bash\n"), script.stderr
    assert str(REPOSITORY) not in script.stdout
    on_site = ["hpc-submit", "quickstart.yaml", "--dry-run", "--cluster", "slurm", "--set", "launch.site=lab"]
    assert "GLOO_SOCKET_IFNAME" in installed.run(*on_site, cwd=tmp_path).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart.yaml", "schema.json"]


@pytest.mark.slow
def test_an_image_gets_the_wheel_that_is_installed(installed, clone, tmp_path):
    done = installed.run("hpctrain", "image", "--extras", "remote,filters", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = tmp_path / f"image/hpctrain-{__version__}-py3-none-any.whl"
    [wheel] = clone.parent.glob("built-wheel/*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
        names = [name for name in first.namelist() if not name.endswith("/RECORD")]
        assert all(first.read(name) == second.read(name) for name in names)
    assert f"/{again.name}[filters,remote]'" in (tmp_path / "image/Dockerfile").read_text()
    assert (tmp_path / "image/constraints.txt").read_text() == (REPOSITORY / "constraints.txt").read_text()


def test_a_file_that_exists_is_not_overwritten_by_init(tmp_path):
    def init(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hpctrain", "init", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    (tmp_path / "hpc.yaml").write_text("mine\n")
    done = init("workstation")  # extends hpc.yaml, which would come with it
    assert done.returncode == 2
    assert "hpc.yaml: exists and is not overwritten; see --out" in done.stderr
    assert (tmp_path / "hpc.yaml").read_text() == "mine\n"
    assert not (tmp_path / "workstation.yaml").exists()
    wrong = init("workstaton")
    assert wrong.returncode == 2
    assert "there is no 'workstaton' to copy; there are clusters, hpc, image-cnn, jetson" in wrong.stderr
