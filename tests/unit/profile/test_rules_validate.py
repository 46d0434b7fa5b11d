"""A check says before the job is queued that bins or gates of ``validate`` cannot work."""

from __future__ import annotations

import pytest

from hpctrain.profile.check import check_profile
from hpctrain.profile.families import profile_class
from hpctrain.profile.resume import fixed_keys

LABELS = "model: {family: trees, labels: [{column: Z, kind: density}, {column: class, name: kind, kind: class}]}"
TREES = f"name: a\ndata: {{files: [a.h5], features: [g]}}\nlaunch: {{gpus_per_node: 0}}\n{LABELS}\n"
SPECTRA = "name: a\ndata: {files: [a.h5], simulate: {}}\nlaunch: {gpus_per_node: 0}\n\n"


@pytest.fixture
def check(tmp_path):
    """Return a function that gives problems and warnings of a profile with a section `validate`."""

    def judge(validate, rest=TREES):
        path = tmp_path / "profile.yaml"
        path.write_text(f"{rest}validate: {validate}\n")
        findings = check_profile(path, memory=False)
        notes = (findings.problems, findings.warnings)
        return tuple([str(note) for note in found if note.where.startswith("validate")] for found in notes)

    return judge


def test_gates_that_can_be_judged_are_good(check):
    gates = "[{metric: Z.nmad, below: 0.02, use: bound}, {metric: Z.bias, above: -0.01, below: 0.01, every_bin: g}]"
    assert check(f"{{at_end: true, bins: [{{column: g, edges: [1, 2]}}], gates: {gates}}}") == ([], [])
    assert check("{at_end: true, gates: [{metric: spectra.chi2, below: 2}]}", SPECTRA) == ([], [])


def test_gates_that_nothing_judges_are_worth_a_warning(check):
    problems, (warning,) = check("{gates: [{metric: Z.nmad, below: 0.02}]}")
    assert problems == []
    assert "validate.at_end: true" in warning


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("metric: Z.nmad", "validate.gates.0: has no limit; write below, above, or both"),
        (
            "metric: nmad, below: 1",
            "validate.gates.0.metric: found 'nmad'; must be a task and a metric, such as Z.nmad",
        ),
        ("metric: z.nmad, below: 1", "gates.0.metric: there is no label z in model.labels; did you mean 'Z'?"),
        ("metric: class.f1, above: 1", "there is no label class in model.labels; there is Z, kind"),
        ("metric: Z.bias, above: 1, below: -1", "gates.0.above: no value is above 1 and below -1; exchange them"),
        ("metric: Z.nmad, below: 1, every_bin: r", "r has no bins in validate.bins; there is g; add it there"),
        ("metric: Z.nmad, below: 1, every_bin: g, where: {column: g, low: 1}", "has where and every_bin; write two"),
        ("metric: Z.nmad, below: 1, where: {column: g}", "gates.0.where: is no range; write low, high, or both"),
        ("metric: Z.nmad, below: 1, where: {column: g, low: 2, high: 1}", "no value is from 2 to below 1"),
        ("metric: Z.nmda, below: 1", "gates.0.metric: Z has no metric nmda; did you mean 'nmad'?"),
        ("metric: kind.nmad, below: 1", "kind has no metric nmad; there is accuracy, "),
        ("metric: Z.nmad, belov: 1", "validate.gates.0.belov: unknown key; did you mean 'below'?"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_a_problem(check, gate, said):
    (problem, *_), _ = check(f"{{at_end: true, bins: [{{column: g}}], gates: [{{{gate}}}]}}")
    assert said in problem
    assert problem.startswith("line 5: ")


@pytest.mark.parametrize(
    ("validate", "said"),
    [
        ("{bins: [{column: g, edges: [1, 2], quantiles: 3}]}", "bins.0: has edges and quantiles; write one of them"),
        ("{bins: [{column: g, edges: [2, 1]}]}", "bins.0.edges: [2.0, 1.0] does not rise"),
        ("{bins: [{column: g}, {column: g}]}", "bins.1.column: g has bins already"),
        ("{anomalies: {column: type}}", "validate.anomalies: names the column type, but no value of it"),
    ],
)
def test_bins_and_anomalies_that_say_too_little_are_problems(check, validate, said):
    (problem,), _ = check(validate)
    assert said in problem


def test_a_class_that_is_not_there_is_a_problem_where_the_profile_names_the_classes(check):
    known = TREES.replace("kind: class}", "kind: class, classes: [GALAXY, STAR]}")
    (problem,), _ = check("{at_end: true, gates: [{metric: kind.purity.STARS, above: 0.9}]}", known)
    assert "validate.gates.0.metric: kind has no class STARS; did you mean 'STAR'?" in problem
    assert check("{at_end: true, gates: [{metric: kind.purity.STARS, above: 0.9}]}") == ([], [])


def test_a_resumed_run_may_change_every_key_of_it():
    assert not [key for key in fixed_keys(profile_class("trees")) if key.startswith("validate")]
