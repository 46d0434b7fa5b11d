"""Energy: the trapezoidal rule, counters, and gaps that are said instead of filled."""

from __future__ import annotations

import pytest

from hpctrain.monitor.energy import EnergyMeter


def test_a_power_that_rises_in_a_line_is_integrated_exactly():
    meter = EnergyMeter(longest_gap_s=6.0)
    for second in range(0, 101, 5):
        meter.add_power("board", float(second), 10.0 + 0.2 * second)
    assert meter.total_j == pytest.approx(10.0 * 100 + 0.1 * 100**2)
    assert meter.longest_unmeasured_s == 0.0


def test_a_gap_is_unmeasured_time_and_no_energy():
    meter = EnergyMeter(longest_gap_s=6.0)
    for second in (0.0, 5.0, 65.0, 70.0):
        meter.add_power("board", second, 20.0)
    assert meter.total_j == pytest.approx(200.0)
    assert meter.unmeasured_s == {"board": 60.0}


def test_a_sensor_that_is_silent_for_a_while_leaves_that_while_out():
    meter = EnergyMeter(longest_gap_s=60.0)
    for second, watts in ((0.0, 20.0), (5.0, 20.0), (10.0, None), (15.0, 20.0), (20.0, 20.0)):
        meter.add_power("board", second, watts)
    assert meter.total_j == pytest.approx(200.0)
    assert meter.unmeasured_s["board"] == pytest.approx(10.0)


def test_a_counter_goes_on_through_a_gap():
    meter = EnergyMeter(longest_gap_s=6.0)
    assert meter.add_counter("gpu", 0.0, 1000.0) is None
    assert meter.add_counter("gpu", 5.0, 2000.0) == pytest.approx(200.0)
    assert meter.add_counter("gpu", 10.0, None) is None
    assert meter.add_counter("gpu", 1000.0, 5000.0) == pytest.approx(3000 / 995)
    assert meter.total_j == pytest.approx(4000.0)
    assert meter.longest_unmeasured_s == 0.0


def test_a_counter_that_starts_again_has_lost_what_was_in_between():
    meter = EnergyMeter(longest_gap_s=6.0)
    meter.add_counter("gpu", 0.0, 1000.0)
    assert meter.add_counter("gpu", 5.0, 10.0) is None
    meter.add_counter("gpu", 10.0, 110.0)
    assert meter.total_j == pytest.approx(100.0)
    assert meter.unmeasured_s["gpu"] == pytest.approx(5.0)


def test_sources_add_up_and_nothing_measured_is_not_zero():
    meter = EnergyMeter(longest_gap_s=6.0)
    assert meter.total_j is None
    for source, watts in (("gpu", 30.0), ("cpu_package_0", 10.0)):
        meter.add_power(source, 0.0, watts)
        meter.add_power(source, 5.0, watts)
    assert meter.joules == {"gpu": pytest.approx(150.0), "cpu_package_0": pytest.approx(50.0)}
    assert meter.total_j == pytest.approx(200.0)
