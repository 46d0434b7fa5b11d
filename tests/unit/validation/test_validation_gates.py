"""A gate says what was asked, what was found, and by how much; without anything to judge it fails."""

from __future__ import annotations

import numpy as np
import pytest
from made_judged import make_judged

from hpctrain.profile.rules_validate import METRICS, PARTS
from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.validation.gates import failed_gates, judge_gates
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.values import CIRCULAR, REDSHIFT, VALUE, number_task
from hpctrain.validation.validate import validate

NUM = 900


def robust_scatter(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.fixture(scope="module")
def residual():
    """Errors of 0.01, and of 0.05 for the last third of the objects, which are faint."""
    return np.random.default_rng(1).normal(size=NUM) * np.repeat([0.01, 0.01, 0.05], NUM // 3)


@pytest.fixture(scope="module")
def judged(residual, tmp_path_factory):
    mag = np.repeat([16.0, 17.0, 18.5], NUM // 3)
    mag[:10] = 14.0
    survey = np.where(np.arange(NUM) % 2, b"SDSS", b"DESI")
    return make_judged(tmp_path_factory.mktemp("run"), residual, mag=mag, survey=survey)


@pytest.fixture(scope="module")
def tasks(judged):
    """The metrics of all objects together."""
    return validate(judged, ValidateSection(draws=100))["tasks"]


@pytest.fixture
def gate(judged, tasks):
    """Return a function that judges one gate."""

    def judge(**keys):
        bins = [{"column": "mag", "edges": [15, 16.5, 18]}, {"column": "survey"}]
        section = ValidateSection.model_validate({"draws": 100, "bins": bins, "gates": [keys]})
        return judge_gates(judged, section, tasks)[0]

    return judge


def test_a_metric_is_compared_with_its_limits_on_both_sides(gate, residual):
    scatter = robust_scatter(residual)
    found = gate(metric="Z.nmad", below=scatter + 0.001, above=scatter - 0.004)
    assert found["passed"]
    [check] = found["checks"]
    assert check["value"] == pytest.approx(scatter)
    assert check["by"] == pytest.approx(0.001)
    assert check["num_objects"] == NUM
    assert not gate(metric="Z.nmad", below=scatter - 0.001)["passed"]
    assert not gate(metric="Z.nmad", above=scatter + 0.001)["passed"]


def test_a_limit_itself_is_not_below_the_limit(gate):
    value = gate(metric="Z.nmad", below=1)["checks"][0]["value"]
    assert not gate(metric="Z.nmad", below=value)["passed"]


def test_a_gate_on_the_bound_needs_the_whole_interval(gate):
    check = gate(metric="Z.nmad", below=1)["checks"][0]
    between = 0.5 * (check["value"] + check["high"])
    assert gate(metric="Z.nmad", below=between)["passed"]
    found = gate(metric="Z.nmad", below=between, use="bound")
    assert not found["passed"]
    assert found["checks"][0]["compared"] == check["high"]
    assert found["checks"][0]["by"] == pytest.approx(between - check["high"])
    assert gate(metric="Z.nmad", above=check["low"] - 1e-9, use="bound")["passed"]
    assert not gate(metric="Z.nmad", above=check["low"] + 1e-9, use="bound")["passed"]


def test_a_gate_judges_the_objects_of_a_range_alone(gate, residual):
    found = gate(metric="Z.nmad", below=0.02, where={"column": "mag", "high": 18})
    assert found["passed"]
    [check] = found["checks"]
    assert check["num_objects"] == NUM * 2 // 3
    assert check["value"] == pytest.approx(robust_scatter(residual[: NUM * 2 // 3]))
    faint = gate(metric="Z.nmad", below=0.02, where={"column": "mag", "low": 18})
    assert not faint["passed"]
    assert faint["asked"] == "Z.nmad below 0.02 for mag from 18"


def test_the_worst_subgroup_decides_and_is_named(gate, residual):
    found = gate(metric="Z.nmad", below=0.02, every_bin="mag")
    assert not found["passed"]
    assert [check["place"] for check in found["checks"]] == [
        "mag below 15", "mag 15 to 16.5", "mag 16.5 to 18", "mag from 18",
    ]  # fmt: skip
    assert [check["judged"] for check in found["checks"]] == [False, True, True, True]
    assert [check["passed"] for check in found["checks"]] == [False, True, True, False]
    worst = robust_scatter(residual[-NUM // 3 :])
    assert found["said"] == f"{worst:.4g}, {worst - 0.02:.4g} beyond the limit (mag from 18)"
    assert gate(metric="Z.nmad", below=0.2, every_bin="mag")["passed"]
    assert len(gate(metric="Z.nmad", below=0.2, every_bin="survey")["checks"]) == 2


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"metric": "Z.nmad", "every_bin": "mag", "min_objects": 500}, "no bin has 500 objects (most: 300)"),
        ({"metric": "Z.nmad", "min_objects": 901}, "nothing to judge: there are not 901 objects (most: 900)"),
        ({"metric": "Z.nmad", "where": {"column": "mag", "low": 99}}, "there are not 30 objects (most: 0)"),
        ({"metric": "Z.nmda"}, "Z has no metric nmda; did you mean 'nmad'?"),
        ({"metric": "kind.nmad"}, "kind has no metric nmad"),
        ({"metric": "mass.nmad"}, "predicts no mass; it predicts Z, kind"),
        ({"metric": "Z.nmad", "every_bin": "r"}, "r has no bins in validate.bins"),
        ({"metric": "Z.nmad", "where": {"column": "survey", "low": 1}}, "survey holds no numbers"),
    ],
)
def test_a_gate_without_anything_to_judge_fails_and_says_so(gate, keys, said):
    found = gate(below=1e9, **keys)
    assert not found["passed"]
    assert said in found["said"]
    assert failed_gates([found]) == [f"{found['asked']}: {found['said']}"]


def test_a_metric_that_is_not_defined_keeps_no_limit(judged):
    stars = judged.take(np.flatnonzero(judged.columns["kind_TRUE"] == b"STAR"))
    section = ValidateSection.model_validate({"draws": 100, "gates": [{"metric": "kind.purity.STAR", "below": 2}]})
    tasks = {"kind": {"metrics": {"purity.STAR": {"value": None, "low": None, "high": None, "n": 99, "num_rows": 99}}}}
    [found] = judge_gates(stars, section, tasks)
    assert not found["passed"]
    assert found["said"] == "not defined"


def test_a_metric_of_a_class_may_have_a_gate(gate):
    assert gate(metric="kind.completeness.QSO", above=0.7)["passed"]
    assert not gate(metric="kind.completeness.QSO", above=0.9)["passed"]


def test_check_knows_the_metrics_that_labels_have():
    rng = np.random.default_rng(3)
    true, number = rng.uniform(0.1, 1, 50), rng.integers(0, 2, 50)
    columns = {name: rng.uniform(size=50) for name in ("PIT", "CRPS", "NLL", "CDE_LOSS")}
    found = {
        kind: {m.name for m in number_task("Z", kind, true, true, outlier=0.1, period=1.0, columns=columns).metrics}
        for kind in (VALUE, REDSHIFT, CIRCULAR)
    }
    assert found[VALUE] | found[REDSHIFT] == set(METRICS["value"]) == set(METRICS["density"])
    assert found[CIRCULAR] == set(METRICS["circular"])
    task = class_task("kind", ["A", "B"], number, number, rng.dirichlet([1, 1], 50))
    names = {metric.name for metric in task.metrics}
    assert names == {*METRICS["class"], *(f"{part}.{name}" for part in PARTS for name in "AB")}
