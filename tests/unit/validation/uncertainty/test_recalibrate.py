"""What a calibration is worth on objects that it was not fitted to."""

import numpy as np
import pytest
from judged_parts import made_up

from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.validation.uncertainty.calibration import add_calibration
from hpctrain.validation.uncertainty.recalibrate import compare_densities, fit_temperature, raw_classes, tempered


def test_a_temperature_is_recovered(tmp_path):
    task = made_up(tmp_path, size=20_000, sharpness=1.8).tasks[0]
    p, true = task.arrays["probability"], task.arrays["true"]
    assert fit_temperature(p, true) == pytest.approx(1.8, rel=0.03)
    assert fit_temperature(tempered(p, 3.0), true) == pytest.approx(0.6, rel=0.03)


def test_the_probabilities_before_the_calibration_follow_from_the_card():
    raw = np.random.default_rng(0).dirichlet([1, 1, 1], size=5)
    found, known = raw_classes({"factor": 2.5}, tempered(raw, 2.5), None)
    assert found == pytest.approx(raw)
    assert known
    assert not raw_classes(None, raw, None)[1]


def test_temperature_and_map_lower_the_loss_of_a_model_that_is_too_sure_on_other_objects(tmp_path):
    judged = made_up(tmp_path, size=3000)
    card = {**judged.card, "calibration": {"kind": {"method": "none", "factor": 1.0}}}
    object.__setattr__(judged, "card", card)
    task = add_calibration(judged, ValidateSection(draws=100))["calibration"]["tasks"]["kind"]
    none, hot, isotonic = (task["on_other_objects"][name] for name in ("none", "temperature", "isotonic"))
    assert hot["log_loss"] < none["log_loss"] - 0.02
    assert hot["ece"] < 0.5 * none["ece"]
    assert isotonic["log_loss"] == pytest.approx(hot["log_loss"], abs=0.02)
    assert none["log_loss"] == pytest.approx(-np.log(task_probability(judged)).mean(), rel=1e-5)


def task_probability(judged):
    task = judged.tasks[0]
    return task.arrays["probability"][np.arange(len(judged)), task.arrays["true"]]


def test_a_map_helps_densities_that_are_too_wide_and_costs_little_where_they_are_right():
    rng = np.random.default_rng(1)
    ids = rng.integers(2**60, size=4000)
    wide = compare_densities(rng.beta(3, 3, size=4000), ids)
    assert wide["isotonic"]["coverage_error"] < 0.2 * wide["as_predicted"]["coverage_error"]
    assert wide["isotonic"]["log_loss_change"] < -0.1
    right = compare_densities(rng.uniform(size=4000), ids)
    assert abs(right["isotonic"]["log_loss_change"]) < 0.03
