"""A release by tag: what must agree, packages with the same bytes each time, and the recipe for conda."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from installation import REPOSITORY, copy_of_the_checkout
from own_environment import own_environment

from hpctrain import __version__

PROGRAM = REPOSITORY / ".ci/release.py"
ON_CONDA_FORGE = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Packages that have another name there."""


@pytest.fixture(scope="module")
def releasing() -> ModuleType:
    """The module of the script."""
    spec = importlib.util.spec_from_file_location("release", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(folder: Path, *words: str) -> None:
    own = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *own, "-C", str(folder), *words], check=True, capture_output=True)


def commit_and_tag(folder: Path, tag: str) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")
    git(folder, "tag", "--annotate", tag, "--message", tag)


def set_version(folder: Path, version: str) -> None:
    """Write a version where a person has to write it before a release."""
    for name, old, new in (
        ("hpctrain/__init__.py", r'__version__ = ".*"', f'__version__ = "{version}"'),
        ("CITATION.cff", r"(?m)^version: .*$", f"version: {version}"),
        ("CHANGELOG.md", r"## \[Unreleased\]", f"## [Unreleased]\n\n## [{version}] - 2026-12-01"),
    ):
        path = folder / name
        path.write_text(re.sub(old, new, path.read_text(), count=1))


@pytest.fixture
def tagged(tmp_path) -> Path:
    """A small repository that looks like ours, with the tag v0.2.0 on a commit that can be released."""
    folder = tmp_path / "clone"
    (folder / "hpctrain").mkdir(parents=True)
    for name, text in {
        "hpctrain/__init__.py": '"""A package."""\n\n_HOMES = {}\n__version__ = "0.1.0"\n',
        "CITATION.cff": (REPOSITORY / "CITATION.cff").read_text(),
        "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-11-25\n\n- x\n",
    }.items():
        (folder / name).write_text(text)
    set_version(folder, "0.2.0")
    commit_and_tag(folder, "v0.2.0")
    return folder


def replace(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    git(folder, "commit", "--quiet", "--all", "--message", "Changed")
    git(folder, "tag", "--force", "--annotate", "v0.2.0", "--message", "again")


def test_a_tag_with_which_all_agrees_can_be_released(releasing, tagged):
    assert releasing.problems(tagged, "v0.2.0") == []
    assert releasing.notes_of(tagged, "0.2.0") == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("hpctrain/__init__.py", "0.2.0", "0.3.0", "hpctrain/__init__.py has version 0.3.0, the tag has 0.2.0"),
        ("CITATION.cff", "version: 0.2.0", "version: 0.1.9", "CITATION.cff has version 0.1.9, the tag has 0.2.0"),
        ("CHANGELOG.md", "## [0.2.0] - 2026-12-01", "## [0.2.0]", "no section '## [0.2.0] - YYYY-MM-DD' with text"),
        ("CHANGELOG.md", "### Added\n\n- A thing.\n", "", "no section '## [0.2.0] - YYYY-MM-DD' with text"),
    ],
    ids=["version", "citation", "undated section", "empty section"],
)
def test_what_does_not_agree_with_the_tag_is_named(releasing, tagged, name, old, new, said):
    replace(tagged, name, old, new)
    [reason] = releasing.problems(tagged, "v0.2.0")
    assert said in reason


def test_a_wrong_tag_another_commit_and_changed_files_are_named_together_and_nothing_is_written(tagged):
    (tagged / "CITATION.cff").write_text("version: 0.2.0\nchanged: yes\n")
    git(tagged, "commit", "--quiet", "--all", "--message", "Later")
    (tagged / "notes.txt").write_text("not in git\n")

    def release(tag: str) -> list[str]:
        words = [sys.executable, str(PROGRAM), tag, "--checkout", str(tagged)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.splitlines()

    assert release("v0.2.0") == [
        "no release of v0.2.0:",
        "  v0.2.0 is not the commit that is checked out; git checkout v0.2.0",
        "  the checkout differs from its commit: notes.txt; commit the changes or put them aside",
    ]
    assert release("0.2") == ["no release of 0.2:", "  '0.2' is no tag such as v0.2.0 or v0.2.0rc1"]
    assert release("v0.3.0")[1].startswith("  there is no tag v0.3.0; make it with: git tag --annotate v0.3.0")
    assert not (tagged / "dist").exists()


def recipe() -> dict:
    return yaml.safe_load((REPOSITORY / ".ci/conda/recipe.yaml").read_text())


def test_the_recipe_for_conda_asks_for_what_setup_cfg_asks_for():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    context = recipe()["context"]
    assert context["version"] == __version__
    assert f">={context['python_min']}" == config["options"]["python_requires"]
    wanted = []
    for line in config["options"]["install_requires"].split():
        name, version = re.fullmatch(r"([\w-]+)(>=.*)", line).groups()
        wanted.append(f"{ON_CONDA_FORGE.get(name, name)} {version}")
    assert recipe()["requirements"]["run"][1:] == wanted
    commands = config["options.entry_points"]["console_scripts"].strip().splitlines()
    assert recipe()["build"]["python"]["entry_points"] == commands
    assert recipe()["about"]["summary"] == config["metadata"]["description"]


def test_the_recipe_of_a_release_takes_the_archive_of_the_release(releasing, tmp_path):
    archive = tmp_path / "hpctrain-0.2.0.tar.gz"
    archive.write_bytes(b"all files")
    text = (REPOSITORY / ".ci/conda/recipe.yaml").read_text()
    written = yaml.safe_load(releasing.recipe_of(text, "0.2.0", archive))
    assert written["source"]["sha256"] == hashlib.sha256(b"all files").hexdigest()
    assert written["source"]["url"].endswith("/hpctrain-0.2.0.tar.gz")
    assert written["context"]["version"] == "0.2.0"
    assert written["requirements"] == recipe()["requirements"]


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A copy of this checkout after its script has released the tag v9.8.7, called with a strict umask."""
    checkout = copy_of_the_checkout(tmp_path_factory.mktemp("release"))
    set_version(checkout, "9.8.7")
    commit_and_tag(checkout, "v9.8.7")
    tools = own_environment("release", "twine>=6", "check-wheel-contents>=0.6", constrained=False)
    environment = {**os.environ, "PATH": f"{tools.parent}:{os.environ['PATH']}"}
    command = [sys.executable, ".ci/release.py", "v9.8.7"]
    done = subprocess.run(command, cwd=checkout, env=environment, umask=0o077, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "twine upload" in done.stdout  # it says how, and does not do it
    return checkout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="ten seconds of CPU time; set ALL_FAULTS=1")
def test_a_release_has_packages_sums_notes_and_a_recipe(released):
    dist = released / "dist"
    packages = ["hpctrain-9.8.7-py3-none-any.whl", "hpctrain-9.8.7.tar.gz"]
    assert sorted(os.listdir(dist)) == ["SHA256SUMS", *packages, "recipe.yaml", "release-notes.md"]
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=dist, capture_output=True, text=True)
    assert sorted(done.stdout.splitlines()) == [f"{name}: OK" for name in packages]
    assert (dist / "release-notes.md").read_text().startswith("### Added")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=released, capture_output=True, text=True)
    assert status.stdout == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="ten seconds of CPU time; set ALL_FAULTS=1")
def test_source_archive_and_clone_build_the_same_wheel_and_somebody_else_builds_the_same_bytes(
    releasing, released, tmp_path
):
    """Another folder, another umask, another time; then from the clone itself, without the way through the archive."""
    epoch = int(releasing.git(released, "log", "-1", "--format=%ct", "v9.8.7"))
    other = releasing.build(releasing.export(released, "v9.8.7", tmp_path / "else where"), tmp_path / "dist", epoch)
    for path in other:
        assert path.read_bytes() == (released / "dist" / path.name).read_bytes()
    direct = tmp_path / "direct"
    direct.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(direct)!r})"
    command = [sys.executable, "-c", code]
    subprocess.run(
        command, cwd=releasing.export(released, "v9.8.7", tmp_path / "clone"), check=True, capture_output=True
    )
    [wheel] = direct.iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(released / "dist" / wheel.name) as two:
        assert sorted(one.namelist()) == sorted(two.namelist())
        assert all(one.read(name) == two.read(name) for name in one.namelist() if not name.endswith("RECORD"))
    with tarfile.open(released / "dist/hpctrain-9.8.7.tar.gz") as archive:
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in archive} == {(0, 0, "", epoch)}
