"""The scripts in bin/ and the installed commands are the same program."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain import __version__
from hpctrain.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]


def entry_points() -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, _, target in (line.partition("=") for line in lines)}


def test_every_entry_point_has_its_script_in_bin_and_the_other_way_round():
    assert sorted(entry_points()) == sorted(path.name for path in (REPOSITORY / "bin").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(entry_points()))
def test_script_and_installed_command_say_the_same(name, tmp_path):
    def says(program: Path, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    installed, script = Path(sys.executable).with_name(name), REPOSITORY / "bin" / name
    for arguments in (["--help"], ["no-such-profile.yaml"]):
        assert says(script, *arguments) == says(installed, *arguments)


def test_the_scripts_are_a_few_lines():
    for path in (REPOSITORY / "bin").iterdir():
        assert len(path.read_text().splitlines()) < 30, path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_overview_exists_and_explains_itself(command):
    done = subprocess.run([sys.executable, "-m", "hpctrain", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: hpctrain {command}")


def test_the_version_is_the_installed_one():
    done = subprocess.run([sys.executable, "-m", "hpctrain", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"hpctrain {__version__}"
