"""The example of docs/own-model.md does what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from families import EXAMPLES, TINY, profile_values

from hpctrain.cli import run_command

EXAMPLE = EXAMPLES / "examples" / "linear_autoencoder.py"


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 80


@pytest.mark.usefixtures("warm_python")
def test_the_profile_of_the_example_is_good(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command("check", [str(EXAMPLE.with_suffix(".yaml"))]) == 0
    assert "steps in 4 epochs" in capsys.readouterr().out


@pytest.mark.usefixtures("warm_python")
def test_a_run_of_the_example_survives_kills_without_one_changed_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = TINY["linear_autoencoder"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    Path("tiny.yaml").write_text(yaml.safe_dump(values))
    code = run_command("verify-resume", ["tiny.yaml", "--kills", "2", "--steps", "10", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert json.loads(said.out)["identical"] is True
