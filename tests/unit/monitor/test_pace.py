"""The pace: levels with hysteresis and a shortest stay, in time-lapse on a clock of ours."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given
from machines import Machine

from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.limits import power_limit, temperature_limit
from hpctrain.monitor.pace import LEAST_DUTY, Governor, Level, Reading
from hpctrain.monitor.sensors import Sensors
from hpctrain.monitor.thermal import Trips

ORIN = temperature_limit(None, Trips(95.0, 99.0, 104.5))
OK, WARM, HOT, CRITICAL = Level


def tj(celsius, limit=ORIN):
    return [Reading("tj", celsius, limit)]


def levels(governor, recording):
    """Play (seconds, °C) and return the level after each."""
    found = []
    for second, celsius in recording:
        governor.update(float(second), tj(celsius))
        found.append(governor.level)
    return found


def test_a_board_s_own_trip_points_are_the_limits():
    assert (ORIN.warm, ORIN.hot, ORIN.critical) == (85.0, 92.0, 99.0)
    assert "95 °C" in ORIN.origin


def test_a_limit_in_the_profile_comes_first_and_the_board_s_last_point_stays():
    limit = temperature_limit(70.0, Trips(95.0, 99.0, 104.5))
    assert (limit.warm, limit.hot, limit.critical) == (70.0, 77.0, 99.0)
    near = temperature_limit(97.0, Trips(95.0, 99.0, 104.5))
    assert near.warm < near.hot < near.critical == 99.0
    assert temperature_limit(70.0, Trips()).critical == 85.0


def test_a_machine_that_says_nothing_and_a_profile_that_asks_nothing_limit_nothing():
    assert temperature_limit(None, Trips()) is None
    assert temperature_limit(None, Trips(critical=110.0)) is None
    assert power_limit(None) is None


def test_heating_and_cooling_in_time_lapse_goes_up_and_down_the_levels():
    """Heats by 1 °C in 5 s to 94 °C, cools down again; thresholds 85 and 92, hysteresis 5."""
    heating = [(5 * n, 60.0 + n) for n in range(35)]
    cooling = [(175 + 5 * n, 94.0 - n) for n in range(35)]
    found = levels(Governor(dwell_s=10.0), heating + cooling)
    assert [level for level, before in zip(found, [None, *found], strict=False) if level != before] == [
        OK, WARM, HOT, WARM, OK,
    ]  # fmt: skip
    at = {celsius: level for (_, celsius), level in zip(heating, found, strict=False)}
    assert (at[84.0], at[85.0], at[91.0], at[92.0]) == (OK, WARM, WARM, HOT)
    down = {celsius: level for (_, celsius), level in zip(cooling, found[35:], strict=False)}
    assert (down[87.0], down[86.0], down[80.0], down[79.0]) == (HOT, WARM, WARM, OK)


def test_a_reading_that_dances_around_a_threshold_changes_the_level_once():
    recording = [(n, 85.0 + 2.0 * math.sin(n)) for n in range(600)]
    found = levels(Governor(dwell_s=10.0), recording)
    assert sum(a != b for a, b in itertools.pairwise(found)) <= 1
    assert found[-1] is WARM


def test_a_level_is_kept_for_the_shortest_stay_even_if_it_is_cold_at_once():
    governor = Governor(dwell_s=10.0)
    assert levels(governor, [(0, 93.0), (1, 40.0), (9, 40.0)]) == [HOT, HOT, HOT]
    assert levels(governor, [(10, 40.0), (19, 40.0), (20, 40.0)]) == [WARM, WARM, OK]


def test_it_rises_at_once_and_as_far_as_it_must():
    governor = Governor(dwell_s=10.0)
    change = governor.update(0.0, tj(100.0))
    assert (change.before, change.level) == (OK, CRITICAL)
    assert change.reason == "tj 100.0 °C; the board slows itself down at 95 °C"


def test_an_over_current_event_goes_one_level_up_and_never_to_the_last():
    governor = Governor(dwell_s=10.0)
    change = governor.update(0.0, tj(50.0), ["3 over-current events of oc1"])
    assert (change.level, change.reason) == (WARM, "3 over-current events of oc1")
    assert governor.duty == 0.5
    assert governor.update(1.0, tj(50.0), ["again"]).level is HOT
    assert governor.update(2.0, tj(50.0), ["again"]) is None
    assert governor.update(11.9, tj(50.0)) is None
    assert governor.update(12.0, tj(50.0)).level is WARM


def test_a_sensor_that_falls_silent_holds_no_run_up_for_ever():
    governor = Governor(dwell_s=10.0)
    governor.update(0.0, tj(93.0))
    for second in (5.0, 10.0, 20.0):
        governor.update(second, [])
    assert governor.level is OK


def test_the_duty_falls_in_a_line_from_the_warm_limit_to_the_hot_one():
    governor = Governor(dwell_s=0.0)
    duties = []
    for celsius in (80.0, 85.0, 88.5, 91.9):
        governor.update(celsius, tj(celsius))
        duties.append(governor.duty)
    assert duties == pytest.approx([1.0, 1.0, 0.55, 0.113], abs=0.001)


def test_power_slows_a_run_but_never_halts_it():
    limit = power_limit(40.0)
    governor = Governor(dwell_s=0.0)
    governor.update(0.0, [Reading("power", 300.0, limit)])
    assert governor.level is WARM
    assert governor.duty == pytest.approx(LEAST_DUTY)
    governor.update(1.0, [Reading("power", 35.0, limit)])  # below 36 W, above 36 - 2 W: the level stays, at full duty
    assert (governor.level, governor.duty) == (WARM, 1.0)
    assert governor.update(2.0, [Reading("power", 33.9, limit)]).level is OK


def test_the_coolest_zone_does_not_hide_the_hottest():
    governor = Governor(dwell_s=0.0)
    change = governor.update(
        0.0, [Reading("tboard", 40.0, ORIN), Reading("gpu", 93.0, ORIN), Reading("cpu", 86.0, ORIN)]
    )
    assert change.level is HOT
    assert change.reason.startswith("gpu 93.0 °C")


@given(st.lists(st.tuples(st.floats(0.1, 30.0), st.floats(20.0, 120.0) | st.none()), max_size=60))
def test_whatever_is_read_the_level_covers_it_and_the_duty_is_one_only_when_it_may(steps):
    governor, now_s = Governor(dwell_s=10.0), 0.0
    for wait_s, celsius in steps:
        now_s += wait_s
        governor.update(now_s, [] if celsius is None else tj(celsius))
        if celsius is not None:
            assert governor.level >= ORIN.level(celsius)
        assert LEAST_DUTY - 1e-9 <= governor.duty <= 1.0
        assert governor.duty == 1.0 or governor.level > OK


def simulate(governor, limit, full_power_w, minutes):
    """A board of one thermal mass: full power would heat it far above its limits. Returns temperatures, duties."""
    celsius, ambient_c, per_watt, time_constant_s = 45.0, 35.0, 1.5, 90.0
    trace = []
    for second in range(60 * minutes):
        share = 0.0 if governor.level >= HOT else governor.duty
        end_c = ambient_c + per_watt * (8.0 + share * (full_power_w - 8.0))
        celsius += (end_c - celsius) / time_constant_s
        if second % 5 == 0 or governor.level > OK:
            governor.update(float(second), tj(celsius, limit))
        trace.append((celsius, share))
    return trace


@pytest.mark.parametrize("full_power_w", [30.0, 45.0, 60.0, 120.0])
def test_a_board_that_would_burn_settles_below_its_passive_point_and_goes_on_computing(full_power_w):
    trace = simulate(Governor(dwell_s=10.0), ORIN, full_power_w, minutes=60)
    late = trace[1800:]
    assert max(celsius for celsius, _ in trace) < 95.0
    assert sum(share for _, share in late) / len(late) > 0.2
    if full_power_w == 30.0:  # 80 °C: nothing to do
        assert all(share == 1.0 for _, share in trace)


def test_a_recorded_orin_that_heats_up_is_slowed_by_its_own_trip_points(tmp_path):
    machine = Machine(tmp_path, "agx-orin-64gb")
    sensors, governor, meter = Sensors(machine.root), Governor(dwell_s=10.0), EnergyMeter(30.0)
    found = {}
    for second, celsius in enumerate([*range(70, 100), *range(99, 60, -1)]):
        machine.heat(celsius)
        values = sensors.read(10.0 * second, meter)
        governor.update(10.0 * second, sensors.readings(values, None))
        found.setdefault(governor.level, celsius)
    assert found == {OK: 70, WARM: 85, HOT: 92, CRITICAL: 99}
    assert governor.level is OK
    assert meter.total_j == pytest.approx(10 * 68 * (19.968 * 0.160 + 19.960 * 0.720 + 5.040))


def test_trip_points_of_a_laptop_s_firmware_slow_nothing_down(tmp_path):
    laptop = Machine(tmp_path, "laptop")
    laptop.heat(99.0, "x86_pkg_temp")
    sensors = Sensors(laptop.root)
    assert sensors.readings(sensors.read(0.0, EnergyMeter(1.0)), None) == []
    limited = Sensors(laptop.root, thermal_limit_c=80.0)
    readings = limited.readings(limited.read(0.0, EnergyMeter(1.0)), None)
    assert max(reading.limit.level(reading.value) for reading in readings) is CRITICAL
