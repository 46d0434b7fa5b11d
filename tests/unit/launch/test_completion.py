"""The completion that ``hpctrain completion bash`` prints works in a real bash."""

from __future__ import annotations

import subprocess

import pytest

from hpctrain.cli import COMMANDS, run_command

ASK = """\
. ./completion.bash
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=(); _hpctrain; echo "${COMPREPLY[@]}"; }
ask hpctrain ''
ask hpctrain plo
ask hpctrain submit --dry
ask hpctrain completion ''
ask hpctrain data repack --layout ''
ask hpctrain data re
ask hpc-submit --res
ask hpctrain check my
"""


@pytest.fixture
def script(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command("completion", ["bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)


def test_bash_completes_commands_actions_options_values_and_files(script, tmp_path):
    (tmp_path / "my.yaml").touch()
    done = subprocess.run(["bash", "--norc", "-c", ASK], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split() == list(COMMANDS)
    assert lines[1] == "plot"
    assert lines[2] == "--dry-run"
    assert {"bash", "zsh", "fish"} <= set(lines[3].split())
    assert lines[4] == "contiguous chunked"
    assert lines[5] == "repack"
    assert lines[6] == "--resume"
    assert lines[7] == "my.yaml"


def test_zsh_and_fish_get_the_same_commands(capsys):
    assert run_command("completion", ["zsh"]) == 0
    assert capsys.readouterr().out.startswith("autoload -Uz bashcompinit")
    assert run_command("completion", ["fish"]) == 0
    said = capsys.readouterr().out
    assert all(f"-a {name} -d " in said for name in COMMANDS)
