"""A run that judges its model at the end: what the trainer, the command, the status and the report say."""

from __future__ import annotations

import json

import pytest
import yaml
from families import TINY, profile_values

from hpctrain.errors import GateError
from hpctrain.launch.status import describe
from hpctrain.report.validation_file import read_validation
from hpctrain.rundir import RunDir


@pytest.mark.slow
def test_a_run_that_fails_a_gate_is_finished_and_says_so_everywhere(tmp_path, start, warm_python, hpctrain):
    tiny = TINY["trees"]
    validate = {
        "at_end": True,
        "draws": 100,
        "bins": [{"column": "i", "quantiles": 2}],
        "gates": [
            {"metric": "z.nmad", "below": 5.0, "min_objects": 5},
            {"metric": "colour.accuracy", "above": 2.0, "every_bin": "i", "min_objects": 3},
        ],
    }
    run = RunDir.create(tmp_path, "judged", "run")
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5", num=200))
    run.profile.write_text(yaml.safe_dump({**values, "validate": validate}))
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    assert "gates: 1 of 2 kept" in ranks.stdout
    assert "1 of 2 gates failed\n  colour.accuracy above 2 in every bin of i" in ranks.stdout

    text = run.validation.read_text()
    found = read_validation(json.loads(text))
    assert [gate.passed for gate in found.gates] == [True, False]
    assert set(found.tasks) == {"colour", "size", "angle", "z"}
    assert {figure.key for figure in found.figures} >= {"z.truth", "colour.confusion", "colour.roc"}
    assert "NaN" not in text

    assert describe(run).state == "finished"
    [failed] = describe(run).failed_gates
    assert failed.startswith("colour.accuracy above 2")
    page = run.report.read_text()
    assert f"A gate failed: {failed}" in page
    assert 'id="validation"' in page

    done = hpctrain("validate", run.path, "--out", tmp_path / "again.json")
    assert done.returncode == GateError.exit_code
    assert failed in done.stderr
    again = json.loads((tmp_path / "again.json").read_text())
    assert {**again, "made_at": 0} == {**json.loads(text), "made_at": 0}
