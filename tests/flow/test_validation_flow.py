"""A run that judges its model at the end: what the trainer, the command, status, report and model card say."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml
from families import TINY, profile_values

from hpctrain.errors import GateError, ProfileError
from hpctrain.launch.ranks import free_port, torchrun_variables
from hpctrain.launch.status import describe
from hpctrain.report.validation_file import read_validation
from hpctrain.rundir import RunDir

VALIDATE = {
    "at_end": True,
    "draws": 100,
    "bins": [{"column": "i", "quantiles": 2}],
    "gates": [
        {"metric": "z.nmad", "below": 5.0, "min_objects": 5},
        {"metric": "colour.accuracy", "above": 2.0, "every_bin": "i", "min_objects": 3},
    ],
    "card": {"licence": "CC-BY-4.0", "authors": ["A. | Author"], "intended_use": "Photo-z of *bright* galaxies."},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fork_server):
    """A finished run of trees that judged its model, and what its trainer printed."""
    folder, tiny = tmp_path_factory.mktemp("judged"), TINY["trees"]
    run = RunDir.create(folder / "runs", "judged", "run")
    values = profile_values(tiny, tiny.tiny_file(folder / "data.h5", num=200))
    run.profile.write_text(yaml.safe_dump({**values, "description": "Tiny | things.", "validate": VALIDATE}))
    trainer = fork_server.start(
        "hpctrain.train", [str(run.path)], {**os.environ, **torchrun_variables(0, 1, free_port())}
    )
    stdout, stderr = trainer.communicate()
    assert trainer.wait() == 0, stderr
    return run, stdout


@pytest.mark.slow
def test_a_run_that_fails_a_gate_is_finished_and_says_so_everywhere(finished):
    run, stdout = finished
    assert "gates: 1 of 2 kept" in stdout
    assert "1 of 2 gates failed\n  colour.accuracy above 2 in every bin of i" in stdout
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


@pytest.mark.slow
def test_the_command_ends_with_7_and_writes_the_same_card_and_table_each_time(finished, hpctrain, tmp_path):
    run, _ = finished
    card, latex, out = (tmp_path / name for name in ("card.md", "table.tex", "out.json"))
    done = hpctrain("validate", run.path, "--out", out, "--card", card, "--latex", latex)
    assert done.returncode == GateError.exit_code
    assert describe(run).failed_gates[0] in done.stderr
    assert {**json.loads(out.read_text()), "made_at": 0} == {**json.loads(run.validation.read_text()), "made_at": 0}
    first = card.read_text()
    done = hpctrain("validate", run.path, "--out", out, "--card", card, "--latex", tmp_path / "no" / "table.tex")
    assert done.returncode == ProfileError.exit_code
    assert f"--latex {tmp_path / 'no' / 'table.tex'}: cannot be written: No such file or directory" in done.stderr
    assert card.read_text() == first
    assert r"\multicolumn{3}{l}{\emph{angle}} \\" in latex.read_text()
    _check_card(first, run)


def _check_card(text, run):
    _, front, body = text.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "cc-by-4.0"
    assert [result["task"]["name"] for result in values["model-index"][0]["results"]] == [
        "colour",
        "size",
        "angle",
        "z",
    ]
    for part in (
        "# tiny\n\nTiny \\| things.", "| Authors | A. \\| Author |", "Photo-z of \\*bright\\* galaxies.",
        "Not for: not given (`validate.card.not_for` of the profile)", "| **failed** | colour.accuracy above 2",
        "- A gate failed: colour.accuracy above 2", "arXiv:0807.1533", "| `data.h5` |", "| `validation` | `0.2` |",
        "| `z_PRED` |",
    ):  # fmt: skip
        assert part in body
    assert str(run.path.parent) not in text
    assert "_PIT`" not in body
    for rows in re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}) == 1
