"""Statistics and periods of light curves, each against another implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.timeseries import LombScargle
from scipy import stats

from hpctrain.errors import DataError
from hpctrain.preprocess.periods import best_period, frequencies_of, harmonics, harmonics_at, periodogram
from hpctrain.preprocess.statistics import STATISTICS, light_curve_statistics


def light_curve(num: int = 83, seed: int = 1, period: float = 0.73) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    time = rng.uniform(0, 100, num)
    error = rng.uniform(0.05, 0.2, num)
    phase = 2 * np.pi * time / period
    value = 15 + 0.5 * np.sin(phase) + 0.2 * np.sin(2 * phase + 1.0) + error * rng.normal(size=num)
    return time, value, error


def by_scipy(t: np.ndarray, m: np.ndarray, e: np.ndarray) -> dict[str, float]:
    """Return what scipy and numpy compute under other names."""
    order = np.argsort(t)
    t, m, e = t[order], m[order], e[order]
    line = stats.linregress(t, m)
    quartile = stats.mstats.mquantiles(m, [0.05, 0.1, 0.25, 0.4, 0.6, 0.75, 0.9, 0.95], alphap=0.5, betap=0.5)
    mean, chi2 = np.polynomial.polynomial.polyfit(t, m, 0, w=1 / e, full=True)
    walk = np.cumsum(stats.zscore(m, ddof=1)) / len(m)
    normal = stats.goodness_of_fit(stats.norm, m, statistic="ad", n_mc_samples=1, rng=0).statistic
    return {
        "count": m.size,
        "duration": np.ptp(t),
        "longest_gap": np.max(np.ediff1d(t)),
        "shortest_gap": np.min(np.ediff1d(t)),
        "mean": stats.tmean(m),
        "weighted_mean": mean[0],
        "median": stats.scoreatpercentile(m, 50),
        "standard_deviation": stats.tstd(m),
        "mean_variance": stats.variation(m, ddof=1),
        "amplitude": (m.max() - m.min()) / 2,
        "percent_amplitude": max(m.max() - np.median(m), np.median(m) - m.min()),
        "median_absolute_deviation": stats.median_abs_deviation(m),
        "skewness": stats.skew(m, bias=False),
        "kurtosis": stats.kurtosis(m, bias=False),
        "beyond_1_sigma": np.mean(np.abs(stats.zscore(m, ddof=1)) > 1),
        "beyond_2_sigma": np.mean(np.abs(stats.zscore(m, ddof=1)) > 2),
        "range_50": quartile[5] - quartile[2],
        "range_80": quartile[6] - quartile[1],
        "range_20_over_90": (quartile[4] - quartile[3]) / (quartile[7] - quartile[0]),
        "near_median": np.mean(np.abs(m - np.median(m)) < 0.05 * (m.max() - m.min())),
        "anderson_darling": (1 + 4 / m.size - 25 / m.size**2) * normal,
        "von_neumann": np.mean(np.diff(m) ** 2) / np.var(m, ddof=1),
        "von_neumann_in_time": np.sum((np.diff(m) / np.diff(t)) ** 2)
        * ((t[-1] - t[0]) / (m.size - 1)) ** 2
        / np.sum((m - m.mean()) ** 2),
        "cusum": np.ptp(walk),
        "steepest_slope": np.max(np.abs(np.diff(m) / np.diff(t))),
        "trend": line.slope,
        "trend_error": line.stderr,
        "stetson_k": np.mean(np.abs(m - mean[0]) / e) / np.sqrt(np.mean(((m - mean[0]) / e) ** 2)),
        "reduced_chi2": chi2[0][0] / (m.size - 1),
        "excess_variance": (np.var(m, ddof=1) - np.mean(e**2)) / m.mean() ** 2,
    }


def test_each_statistic_is_that_of_scipy_and_numpy():
    curve = light_curve()
    found, expected = light_curve_statistics(*curve), by_scipy(*curve)
    assert found.keys() == expected.keys() == STATISTICS.keys()
    assert len(found) == 30
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-8), name


LIGHT_CURVE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "longest_gap": ("MaximumTimeInterval", ()),
    "shortest_gap": ("MinimumTimeInterval", ()),
    "weighted_mean": ("WeightedMean", ()),
    "mean_variance": ("MeanVariance", ()),
    "amplitude": ("Amplitude", ()),
    "percent_amplitude": ("PercentAmplitude", ()),
    "median_absolute_deviation": ("MedianAbsoluteDeviation", ()),
    "skewness": ("Skew", ()),
    "kurtosis": ("Kurtosis", ()),
    "beyond_1_sigma": ("BeyondNStd", (1.0,)),
    "beyond_2_sigma": ("BeyondNStd", (2.0,)),
    "range_50": ("InterPercentileRange", (0.25,)),
    "range_80": ("InterPercentileRange", (0.1,)),
    "range_20_over_90": ("MagnitudePercentageRatio", (0.4, 0.05)),
    "near_median": ("MedianBufferRangePercentage", (0.1,)),
    "anderson_darling": ("AndersonDarlingNormal", ()),
    "von_neumann": ("Eta", ()),
    "von_neumann_in_time": ("EtaE", ()),
    "cusum": ("Cusum", ()),
    "steepest_slope": ("MaximumSlope", ()),
    "stetson_k": ("StetsonK", ()),
    "reduced_chi2": ("ReducedChi2", ()),
    "excess_variance": ("ExcessVariance", ()),
}
"""Statistics by the names and arguments of the package light-curve."""


def test_each_statistic_is_that_of_the_package_light_curve():
    package = pytest.importorskip("light_curve")
    time, value, error = light_curve(seed=2)
    order = np.argsort(time)
    found = light_curve_statistics(time, value, error)
    for name, (feature, arguments) in LIGHT_CURVE.items():
        theirs = getattr(package, feature)(*arguments)(time[order], value[order], error[order])[0]
        assert found[name] == pytest.approx(theirs, rel=1e-6), name  # some of its arguments are float32


def test_observations_that_cannot_be_used_are_errors():
    time, value, error = light_curve()
    with pytest.raises(DataError, match="3 times, 3 values and 3 errors; 5 or more"):
        light_curve_statistics(time[:3], value[:3], error[:3])
    with pytest.raises(DataError, match="is not finite, or an error is not above 0"):
        light_curve_statistics(time, value, np.where(error > 0.1, 0, error))
    constant = light_curve_statistics(time, np.full(83, 15.0), error)
    assert constant["standard_deviation"] == 0
    assert np.isnan(constant["skewness"])


def test_a_periodogram_finds_the_period_and_agrees_with_the_slow_one():
    time, value, error = light_curve()
    frequency = frequencies_of(time * 24 * units.h, highest=3)
    np.testing.assert_allclose(frequency, frequencies_of(time, highest=3))
    power = periodogram(time, value, error, frequency)
    slow = LombScargle(time, value, error).power(frequency, method="slow")
    assert np.abs(power - slow).max() < 0.01
    assert best_period(frequency, power) == pytest.approx(0.73, rel=1e-3)
    two = periodogram(time, value, error, frequency, terms=2)
    assert two.max() > power.max()
    with pytest.raises(DataError, match="span no time"):
        frequencies_of(np.zeros(4), 3)


def test_nifty_ls_agrees_with_the_slow_periodogram():
    pytest.importorskip("nifty_ls")
    time, value, error = light_curve()
    frequency = frequencies_of(time, highest=3)
    slow = LombScargle(time, value, error).power(frequency, method="slow")
    np.testing.assert_allclose(periodogram(time, value, error, frequency, method="nifty-ls"), slow, atol=1e-6)


def test_harmonics_do_not_depend_on_the_first_observation():
    time, value, error = light_curve(num=400)
    found = harmonics(time, value, error, 0.73, terms=3)
    np.testing.assert_allclose(found["amplitude"], [0.5, 0.2, 0.0], atol=0.03)
    assert found["phase"][1] == pytest.approx(1.0, abs=0.15)
    later = harmonics(time[time > 20], value[time > 20], error[time > 20], 0.73, terms=3)
    np.testing.assert_allclose(later["phase"][1], found["phase"][1], atol=0.15)
    model = LombScargle(time, value, error, nterms=3)
    offset = model.offset() + model.model_parameters(1 / 0.73)[0]
    assert found["offset"] == pytest.approx(offset, abs=1e-3)
    assert found["residual"] < 0.5
    np.testing.assert_allclose(harmonics_at(time, found, 0.73), model.model(time, 1 / 0.73), atol=1e-3)
    with pytest.raises(DataError, match="6 observations are fewer than the 7 coefficients"):
        harmonics(time[:6], value[:6], error[:6], 0.73, terms=3)
