"""The report shows gates, metrics with intervals and figures of a run that was judged."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from hpctrain.drawing.described.figure import figure
from hpctrain.launch.present import as_json, block
from hpctrain.launch.status import describe
from hpctrain.report.gather import gather_facts
from hpctrain.report.page import render_page
from hpctrain.rundir import RunDir

SCORE = {"value": 0.0131, "low": 0.0119, "high": 0.0142, "n": 812, "num_rows": 900}
METRIC = {
    "label": "scatter <of it>",
    "unit": "mag",
    "better": "lower",
    "description": "One.",
    "references": [],
    **SCORE,
}
CHECK = {
    "place": "r from 17.5", "value": 0.0171, "low": 0.015, "high": 0.02, "num_objects": 54, "compared": 0.0171,
    "by": -0.0011, "judged": True, "passed": False,
}  # fmt: skip
FOUND = {
    "format": "hpctrain-validation", "version": 1, "hpctrain_version": "0", "made_at": 1.0, "run": "real/1",
    "family": "spectral_vae", "model_sha256": None, "split": None, "num_rows": 900, "num_objects": 812,
    "confidence": 0.9, "draws": 500,
    "tasks": {"Z": {"kind": "value", "metrics": {"nmad": METRIC, "purity.A": {**METRIC, "value": None, "low": None}}}},
    "gates": [
        {"metric": "Z.nmad", "asked": "Z.nmad below 0.016 in every bin of r", "said": "0.0171, beyond (r from 17.5)",
         "passed": False, "checks": [CHECK, {**CHECK, "place": "r below 17.5", "by": 0.006, "passed": True}]},
        {"metric": "Z.nmad", "asked": "Z.nmad below 0.02", "said": "0.0131, inside", "passed": True,
         "checks": [{**CHECK, "value": 0.0131, "by": 0.0069, "passed": True}]},
        {"metric": "Z.rms", "asked": "Z.rms below 1", "said": "Z has no metric rms", "passed": False, "checks": []},
    ],
    "figures": [figure("Z.one", "Figure of Z", "curve", {"lines": [{"x": [0, 1], "y": [0, 1]}]}),
                figure("sky.one", "Figure of all", "curve", {"lines": [{"x": [0, 1], "y": [0, 1]}]})],
    "bins": {"of": "another judge"},
}  # fmt: skip


@pytest.fixture
def judged(finished: RunDir):
    """Return a function that puts a validation into a run and returns its page."""

    def put(found, text=None):
        finished.results.mkdir(exist_ok=True)
        finished.validation.write_text(json.dumps(found) if text is None else text)
        return render_page(gather_facts(finished))

    return put


def section_of(page: str) -> str:
    return page.partition('<section id="validation">')[2].partition("</section>")[0]


def test_the_gates_that_fail_come_first_of_all(judged):
    page = judged(FOUND)
    warnings = page.partition('class="warnings"')[2].partition("</aside>")[0]
    first, second = warnings.split("<li>")[1:3]
    assert first.startswith("A gate failed: Z.nmad below 0.016 in every bin of r: 0.0171, beyond (r from 17.5).")
    assert second.startswith("A gate failed: Z.rms below 1: Z has no metric rms.")


def test_the_section_has_what_was_asked_and_found_and_by_how_much(judged):
    shown = section_of(judged(FOUND))
    assert "On 812 held-out objects (900 rows)" in shown
    assert "in 90 % of all samples" in shown
    assert "1 of 3 kept" in shown
    for text in ("✕ failed", "✓ kept", "0.0011 beyond", "0.0069 inside", "r from 17.5", "Z has no metric rms"):
        assert text in shown
    assert "scatter &lt;of it&gt;" in shown
    assert shown.index("Figure of Z") < shown.index("Figure of all")


def test_a_run_that_was_not_judged_has_no_such_section(finished):
    page = render_page(gather_facts(finished))
    assert 'id="validation"' not in page
    assert describe(finished).failed_gates == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda found: found["tasks"]["Z"]["metrics"]["nmad"].pop("n"), "(tasks.Z.metrics.nmad.n: Field required)"),
        (lambda found: found["figures"][0].update(kind="painting"), "(figures.0.kind:"),
        (lambda found: found.update(format="other"), "(format: Input should be 'hpctrain-validation')"),
    ],
)
def test_a_damaged_validation_is_named_and_hides_nothing_else(judged, damage, said):
    found = copy.deepcopy(FOUND)
    damage(found)
    page = judged(found)
    assert 'id="validation"' not in page
    assert "validation.json is damaged or of another version" in page
    assert said.replace("'", "&#x27;") in page
    assert 'id="training"' in page


def test_a_torn_validation_is_named(judged):
    assert "validation.json is damaged" in judged(None, '{"format": "hpctr')


def test_numbers_of_an_earlier_model_are_called_so(judged):
    page = judged({**FOUND, "model_sha256": "0" * 64})
    assert "is about an earlier model of this run" in page


def test_the_status_has_the_gates_that_failed(judged, finished):
    judged(FOUND)
    status = describe(finished)
    assert "gate failed     Z.nmad below 0.016 in every bin of r: 0.0171, beyond (r from 17.5)\n" in block(status)
    assert as_json(status)["failed_gates"][1] == "Z.rms below 1: Z has no metric rms"
    Path(finished.validation).write_text("[1]")
    assert describe(finished).failed_gates == []
