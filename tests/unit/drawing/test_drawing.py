"""Scales, ticks and lines of drawings."""

import math

import numpy as np
import pytest

from hpctrain.drawing.decimate import column_means, decimate, running_mean
from hpctrain.drawing.scale import Scale, grouped, linear_ticks, padded, scientific


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 18000, ["0", "5000", "10\u202f000", "15\u202f000"]),
        (-1.2, 2.1, ["−1", "0", "1", "2"]),
        (0.5, 0.62, ["0.50", "0.55", "0.60"]),
        (0, 1e-5, ["0", "5×10⁻⁶", "10⁻⁵"]),
        (0, 0.00105, ["0.0000", "0.0005", "0.0010"]),
    ],
)
def test_linear_ticks_are_numbers_a_person_would_write(low, high, labels):
    assert [label for _, label in linear_ticks(low, high, 4 if high > 1e-3 else 3)] == labels


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.45, 3.3, ["0.5", "1.0", "2.0"]),
        (0.01, 100, ["0.01", "0.1", "1", "10", "100"]),
        (1e-9, 1e3, ["10⁻⁹", "10⁻⁶", "0.001", "1", "1000"]),
    ],
)
def test_logarithmic_ticks_never_crowd(low, high, labels):
    found = [label for _, label in Scale(low, high, 0, 1, "log").ticks(5)]
    assert [label.rstrip("0").rstrip(".") if "." in label else label for label in found] == [
        label.rstrip("0").rstrip(".") if "." in label else label for label in labels
    ]


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (100, ["0", "15 s", "30 s"]),
        (3600, ["0", "10 min", "20 min"]),
        (9000, ["0", "0:30 h", "1:00 h"]),
        (40 * 3600, ["0", "6 h", "12 h"]),
        (9 * 86400, ["0", "2 d", "4 d"]),
    ],
)
def test_time_is_told_in_the_units_of_its_length(high, labels):
    assert [label for _, label in Scale(0, high, 0, 1, "time").ticks(7)][:3] == labels


def test_a_scale_places_ends_at_ends_and_no_logarithm_of_zero():
    scale = Scale(1, 100, 50, 10, "log")
    assert scale.place(np.array([1, 10, 100])) == pytest.approx([50, 30, 10])
    assert np.isnan(scale.place(np.array([0.0, -1.0]))).all()


def test_numbers_have_thin_spaces_and_a_real_minus():
    assert (grouped(1234567), grouped(-0.5, 1), grouped(-0.001, 1), grouped(9999)) == (
        "1\u202f234\u202f567", "−0.5", "0.0", "9999",
    )  # fmt: skip
    assert (scientific(2.5e-4), scientific(1e9), scientific(-3e5)) == ("2.5×10⁻⁴", "10⁹", "−3×10⁵")


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0, 0), (math.nan, 1), (-5, 5), (math.inf, 2)])
def test_limits_never_have_width_zero(low, high):
    low, high = padded(low, high)
    assert math.isfinite(low)
    assert high > low


def test_decimation_keeps_every_spike_of_a_long_line():
    x, y = np.arange(1_000_000.0), np.sin(np.arange(1_000_000) / 1000)
    y[[123_456, 777_777]] = 50, -50
    short_x, short_y = decimate(x, y, 500)
    assert len(short_x) <= 1000
    assert {50.0, -50.0} <= set(short_y)
    assert (np.diff(short_x) > 0).all()


def test_decimation_leaves_short_lines_alone_and_breaks_at_gaps():
    _, y = decimate(np.arange(6.0), np.array([1, 2, np.nan, 4, 5, 6]), 500)
    assert np.isnan(y[2])
    assert y[[0, 1, 3, 4, 5]].tolist() == [1, 2, 4, 5, 6]


def test_decimation_bridges_a_masked_pixel_narrower_than_the_page_shows_but_no_dead_block():
    y = np.ones(10_000)
    y[5000] = np.nan
    assert not np.isnan(decimate(np.arange(10_000.0), y, 500)[1]).any()
    y[3000:3400] = np.nan
    assert np.isnan(decimate(np.arange(10_000.0), y, 500)[1]).sum() == 1


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf, -np.inf]])
def test_decimation_of_nothing_is_nothing(values):
    x, y = decimate(np.arange(float(len(values))), np.array(values, dtype=float), 10)
    assert (len(x), len(y)) == (0, 0)


def test_one_point_is_a_line_of_one_point():
    x, y = decimate(np.array([3.0]), np.array([4.0]), 100)
    assert (x.tolist(), y.tolist()) == ([3], [4])


def test_column_means_are_means_of_what_is_finite():
    x = np.arange(6.0)
    _, (means,) = column_means(x, [np.array([1, 3, np.nan, np.nan, 5, 7.0])], 3)
    assert means[[0, 2]].tolist() == [2, 6]
    assert np.isnan(means[1])


def test_smoothing_keeps_a_constant_and_passes_over_nan():
    y = np.full(100, 2.0)
    y[50] = np.nan
    smooth = running_mean(y, 5)
    assert np.isnan(smooth[50])
    assert np.delete(smooth, 50) == pytest.approx(2.0)
    assert len(running_mean(np.arange(4.0), 30)) == 4
