"""The command lines of autopsy and lr-find: what they refuse, and how."""

from __future__ import annotations

import pytest
import yaml
from families import TINY

from hpctrain.cli import main
from hpctrain.rundir import RunDir


def test_all_wrong_options_of_an_autopsy_come_at_once(tmp_path, capsys):
    assert main(["autopsy", str(tmp_path), "--without", "7,x", "--steps", "0"]) == 2
    message = capsys.readouterr().err
    assert "x is no target_id" in message
    assert "0 is not above 0" in message


def test_steps_belong_to_without(tmp_path, capsys):
    assert main(["autopsy", str(tmp_path), "--steps", "5"]) == 2
    assert "belongs to --without" in capsys.readouterr().err


def test_results_never_go_into_the_run(tmp_path, capsys):
    run = RunDir.create(tmp_path, "name", "one")
    run.profile.write_text("name: x\n")
    assert main(["autopsy", str(run.path), "--out", str(run.results)]) == 2
    assert "inside the run directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--from", "0.1", "--to", "0.01"], ["--steps", "3"]])
def test_a_sweep_that_makes_no_sense_is_refused(arguments, capsys):
    assert main(["lr-find", "profile.yaml", *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_model_of_rounds_has_nothing_to_sweep(tmp_path, capsys):
    tiny = TINY["trees"]
    data = {"files": [str(tmp_path / "absent.h5")], "simulate": None, **tiny.data}
    path = tmp_path / "trees.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "launch": {"gpus_per_node": 0}, "data": data, "model": tiny.model}))
    assert main(["lr-find", str(path)]) == 2
    assert "learns in rounds" in capsys.readouterr().err
