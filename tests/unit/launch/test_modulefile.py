"""What `hpctrain modulefile` writes, as Lmod and Environment Modules understand it, where they are installed."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from hpctrain import __version__
from hpctrain.cli import run_command

PROGRAMS = {
    "lmod": ("LMOD_CMD", "/usr/share/lmod/lmod/libexec/lmod", "/opt/apps/lmod/lmod/libexec/lmod"),
    "environment-modules": (
        "MODULES_CMD",
        "/usr/lib/x86_64-linux-gnu/modulecmd.tcl",
        "/usr/lib/aarch64-linux-gnu/modulecmd.tcl",
        "/usr/share/Modules/libexec/modulecmd.tcl",
    ),
}
"""The variable that names the program of a system of modules, and where distributions have it."""


@pytest.fixture(params=["lmod-lua", "lmod-tcl", "environment-modules-tcl"])
def system(request) -> tuple[str, str]:
    """The program behind ``module``, and the format of module files that it is given."""
    name, _, kind = request.param.rpartition("-")
    variable, *places = PROGRAMS[name]
    found = [path for path in (os.environ.get(variable, ""), *places) if os.path.exists(path)]
    if not found:
        pytest.skip(f"{name} is not installed")
    return found[0], kind


@pytest.fixture
def prefix(tmp_path) -> Path:
    """An environment in a folder whose name a shell, Lua and Tcl would all like to interpret."""
    folder = tmp_path / "app $HOME [x] {y"
    (folder / "bin").mkdir(parents=True)
    for name in ("hpctrain", "hpc-submit", "python", "pip"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\necho {name} of the module\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "sites").mkdir()
    return folder


def write(*words: object) -> int:
    return run_command("modulefile", [str(word) for word in words])


def session(program: str, modules: Path, *lines: str) -> list[str]:
    """Return what a shell prints in which `module` is the program's."""
    module = f'module() {{ eval "$({program} bash "$@" 2>&${{to:-4}})"; }}'
    environment = {"PATH": os.environ["PATH"], "HOME": str(modules), "MODULEPATH": str(modules), "LMOD_PAGER": "none"}
    script = "\n".join(["exec 3>&1 4>/dev/null", module, *lines])
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


def test_loading_finds_command_and_sites_and_unloading_takes_both_away(system, prefix, tmp_path):
    program, kind = system
    modules = tmp_path / "modules"
    (modules / "python").mkdir(parents=True)
    (modules / "python/3.12").write_text("#%Module1.0\nsetenv PYTHON_OF_THE_SITE yes\n")
    words = ["--out", modules, "--format", kind, "--prefix", prefix, "--sites", prefix / "sites"]
    assert write(*words, "--needs", "python/3.12") == 0
    said = session(
        program,
        modules,
        "module load hpctrain",
        'hpctrain; echo "$HPCTRAIN_SITES"; echo "$PYTHON_OF_THE_SITE"',
        "module unload hpctrain",
        'echo "now ${HPCTRAIN_SITES-unset}"; command -v hpctrain | grep module',
    )
    assert said == ["hpctrain of the module", str(prefix / "sites"), "yes", "now unset"]


def test_users_see_one_version_with_its_words_and_load_one_at_a_time(system, prefix, tmp_path):
    program, kind = system
    modules = tmp_path / "modules"
    assert write("--out", modules, "--prefix", prefix) == 0  # both formats
    suffix = ".lua" if kind == "lua" else ""
    if kind == "tcl":
        (modules / f"hpctrain/{__version__}.lua").unlink()
    (modules / f"hpctrain/99{suffix}").write_text((modules / f"hpctrain/{__version__}{suffix}").read_text())
    said = session(
        program,
        modules,
        "to=3",
        "module -t avail",
        "echo =",
        f"module whatis hpctrain/{__version__}; module help hpctrain",
        "echo =",
        f"module load hpctrain/{__version__}; module load hpctrain/99",
        'echo "loaded $LOADEDMODULES"',
    )
    avail, words, loading = "\n".join(said).split("=\n")
    assert avail.count(f"hpctrain/{__version__}") == 1
    assert "Trains models of astronomical spectra" in words
    assert "hpctrain --help" in words
    assert loading.splitlines()[-1].removeprefix("loaded ") in (f"hpctrain/{__version__}", "hpctrain/99")


def test_links_leave_users_their_python(prefix, tmp_path, capsys):
    folder = tmp_path / "commands"
    for _ in range(2):  # a second call replaces the links of the first
        assert write("--commands", folder, "--prefix", prefix) == 0
    assert sorted(os.listdir(folder)) == ["hpc-submit", "hpctrain"]
    assert subprocess.run([folder / "hpctrain"], capture_output=True, text=True).stdout == "hpctrain of the module\n"
    assert f'prepend_path("PATH", "{folder}")' in capsys.readouterr().out


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written(prefix, tmp_path, capsys):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/hpctrain").write_text("a script of the site\n")
    words = ["--out", tmp_path / "modules", "--sites", tmp_path / "nowhere", "--needs", "a; b"]
    assert write(*words, "--prefix", "/no:where", "--commands", tmp_path / "own") == 2
    error = capsys.readouterr().err
    assert "5 problems" in error
    for said in (
        "--prefix: /no:where/bin has no command hpctrain; install it there first (pip install)",
        "--prefix /no:where: holds ':', which a module file cannot hold",
        "nowhere: is no folder; make it, and start with: hpctrain init site",
        "--needs a; b: is no name of a module, such as python/3.12",
        "own: hpctrain is there and is no link; name another",
    ):
        assert said in error
    assert not (tmp_path / "modules").exists()
    assert (tmp_path / "own/hpctrain").read_text() == "a script of the site\n"


def test_an_administrator_with_a_strict_umask_hears_that_nobody_else_can_read_it(prefix, tmp_path, capsys):
    before = os.umask(0o077)
    try:
        assert write("--out", tmp_path / "modules", "--prefix", prefix) == 0
    finally:
        os.umask(before)
    said = capsys.readouterr().out
    assert f"note: others cannot read {tmp_path}/modules/hpctrain/{__version__}.lua, " in said
    os.chmod(tmp_path / "modules/hpctrain", stat.S_IRWXU)
