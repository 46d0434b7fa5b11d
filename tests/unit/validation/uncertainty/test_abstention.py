"""Risk against coverage."""

import numpy as np
import pytest

from hpctrain.validation.uncertainty.abstention import Abstention


def test_a_perfect_order_of_k_errors_has_the_area_of_its_closed_form():
    size, wrong = 1000, 100
    loss = np.r_[np.zeros(size - wrong), np.ones(wrong)]
    found = Abstention(-np.arange(size), loss, np.arange(size))
    expected = np.sum(np.arange(1, wrong + 1) / np.arange(size - wrong + 1, size + 1)) / size
    assert found.area()[0] == pytest.approx(expected)
    assert found.excess() == pytest.approx(0, abs=1e-12)
    assert found.risk_at(0.9) == 0
    assert found.risk_at(1.0) == pytest.approx(0.1)


def test_a_confidence_that_says_nothing_has_the_risk_of_all_rows_everywhere():
    loss = np.random.default_rng(0).uniform(size=50)
    found = Abstention(np.zeros(50), loss, np.arange(50))
    assert found.area()[0] == pytest.approx(loss.mean())
    assert found.risk_at(0.5) == pytest.approx(loss.mean())


def test_weights_count_as_repeated_rows():
    rng = np.random.default_rng(1)
    sure, loss, times = rng.normal(size=40), rng.uniform(size=40), rng.integers(0, 3, size=40)
    weighted = Abstention(sure, loss, np.arange(40)).area(times[None].astype(float))[0]
    tied = Abstention(np.repeat(sure, times), np.repeat(loss, times), np.repeat(np.arange(40), times))
    assert weighted == pytest.approx(tied.area()[0])


def test_the_interval_holds_the_area_of_the_population():
    rng = np.random.default_rng(2)
    sure = rng.uniform(size=2000)
    wrong = rng.uniform(size=2000) < 0.5 * (1 - sure)
    low, high = Abstention(sure, wrong.astype(float), np.arange(2000)).area_interval(0.999)
    assert low < 0.125 < high  # the risk at coverage c is c / 4, whose mean is 1/8
