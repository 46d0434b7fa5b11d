"""The model card shows metrics in bins, and names the bins that are worse than the others."""

from __future__ import annotations

import pytest

from hpctrain.report.validation_file import read_validation
from hpctrain.validation.model_card.subgroups import flagged_lines, subgroup_lines

METRIC = {"label": "scatter", "unit": "", "better": "lower", "value": 0.02, "low": 0.01, "high": 0.03}
NUMBERS = {"n": 90, "num_rows": 90}


def score(value, flagged=False):
    return {"value": value, "low": value - 0.002, "high": value + 0.002, "n": 30, "judged": True, "flagged": flagged}


def flag(metric, bin_name, inside, outside):
    numbers = {"num_objects": 30, "inside": inside, "outside": outside, "p_adjusted": 0.001}
    return {"task": "Z", "metric": metric, "column": "r", "bin": bin_name, **numbers}


@pytest.fixture
def found():
    nmad, bias = {**METRIC, **NUMBERS}, {**METRIC, **NUMBERS, "label": "bias", "better": "zero"}
    parts = [
        {"label": "below 16", "tasks": {"Z": {"nmad": score(0.012), "bias": score(-0.001)}}},
        {"label": "from 16", "tasks": {"Z": {"nmad": score(0.031, True)}}},
        {"label": "from | 17", "tasks": {}},
    ]
    flagged = [
        flag("nmad", "from 16", 0.031, 0.012),
        flag("nmad", "below 16", 0.012, 0.031),
        flag("bias", "from 16", -0.02, 0.001),
        flag("gone", "from 16", 1.0, 2.0),
    ]
    return read_validation({
        "format": "hpctrain-validation", "version": 1, "hpctrain_version": "0", "made_at": 0, "run": "a/1",
        "family": "trees", "model_sha256": None, "num_rows": 90, "num_objects": 90, "confidence": 0.95, "draws": 100,
        "tasks": {"Z": {"kind": "redshift", "metrics": {"nmad": nmad, "bias": bias}}},
        "bins": {"flagged": flagged, "columns": [{"column": "r", "note": "Read with care.", "bins": parts}]},
    })  # fmt: skip


def test_each_bin_has_a_row_and_flagged_numbers_stand_out(found):
    assert subgroup_lines(found) == [
        "Bold: differs from the other objects by more than chance.",
        "",
        "Z by `r`:",
        "",
        "|  | bias | scatter | objects |",
        "| --- | --- | --- | --- |",
        "| below 16 | −0.0010 (−0.0030 to 0.0010) | 0.0120 (0.0100 to 0.0140) | 30 |",
        "| from 16 | – | **0.0310 (0.0290 to 0.0330)** | 30 |",
        "| from \\| 17 | – | – | 0 |",
        "",
        "Read with care.",
        "",
    ]


def test_only_bins_that_are_worse_are_limits(found):
    assert list(flagged_lines(found)) == [
        "Z is worse for `r` from 16 (30 objects): scatter 0.031 (others 0.012); bias −0.02 (others 0.001)."
    ]


def test_a_run_without_bins_has_no_subgroups(found):
    plain = read_validation({**found.model_dump(mode="json"), "bins": None})
    assert subgroup_lines(plain) == []
    assert list(flagged_lines(plain)) == []
