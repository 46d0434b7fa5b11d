"""The scores of benchmarks/science.py, against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from benchmarks.science_clusters import table_of
from benchmarks.science_morphology import FEATURES, features
from benchmarks.science_scores import bootstrap, density_columns, ks_distance, nmad, smoothed
from hpctrain.families.clusters.agreement import agreement
from hpctrain.kinds.images.simulate import sersic


def test_scores_of_normal_densities_are_the_known_ones():
    rng = np.random.default_rng(1)
    truth, sigma = rng.normal(0.5, 0.05, 400), 0.05
    edges = np.linspace(0, 1, 1001)
    p = smoothed(np.full((400, 1), 0.5), np.ones((400, 1)), sigma, edges)
    found = density_columns(p, edges, truth)
    pull = (truth - 0.5) / sigma
    crps = sigma * (pull * (2 * norm.cdf(pull) - 1) + 2 * norm.pdf(pull) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(found["crps"], crps, atol=2e-5)
    np.testing.assert_allclose(found["pit"], norm.cdf(pull), atol=1e-3)
    np.testing.assert_allclose(found["median"], 0.5, atol=1e-6)
    cde = 1 / (2 * sigma * np.sqrt(np.pi)) - 2 * norm.pdf(pull) / sigma
    np.testing.assert_allclose(found["cde"], cde, atol=0.1)


def test_distances_and_scatter_are_those_of_scipy():
    pit = np.random.default_rng(2).beta(1.2, 1, 300)
    assert ks_distance(pit) == pytest.approx(kstest(pit, "uniform").statistic)
    assert nmad(np.random.default_rng(3).normal(1, 2, 100_000)) == pytest.approx(2, rel=0.02)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(4).normal(size=2000)
    value, low, high = bootstrap(lambda rows: float(values[rows].mean()), 2000)
    assert value == values.mean()
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.15)


def test_features_of_pictures_know_size_shape_concentration_and_symmetry():
    y, x = np.mgrid[:96, :96] - 47.5

    def galaxy(index: float, radius: float, q: float = 1.0) -> np.ndarray:
        light = sersic((x, y), radius, index, q)
        return 3e5 * light / light.sum() * np.array([1.0, 0.8, 0.5])[:, None, None]

    def found(image: np.ndarray) -> dict[str, float]:
        noise = np.random.default_rng(1).normal(0, 0.5, image.shape)
        return dict(zip(FEATURES, features(image + noise).tolist(), strict=True))

    disc, bulge, long = found(galaxy(1, 9)), found(galaxy(4, 9)), found(galaxy(1, 9, 0.5))
    assert disc["half-light radius"] == pytest.approx(9, rel=0.1)
    assert disc["concentration"] == pytest.approx(2.7, abs=0.2)  # of an exponential disc
    assert bulge["concentration"] > disc["concentration"] + 0.5
    assert bulge["Gini"] > disc["Gini"]
    assert long["ellipticity"] == pytest.approx(0.6, abs=0.05)  # (1 - q²) / (1 + q²)
    assert disc["ellipticity"] < 0.05
    assert disc["blue - green"] == pytest.approx(np.log10(0.5 / 0.8), abs=0.02)
    lopsided = galaxy(1, 9) + 2 * np.roll(galaxy(1, 3), 12, axis=2) / 3
    assert found(lopsided)["asymmetry"] > 3 * disc["asymmetry"]


def test_scores_of_clusters_are_one_for_the_classes_and_purity_is_a_share():
    truth = np.repeat([0, 1, 2], 40)
    assert agreement(table_of(truth, 2 - truth)) == pytest.approx({"ari": 1, "nmi": 1, "purity": 1})
    assert agreement(table_of(truth, np.minimum(truth, 1)))["purity"] == pytest.approx(80 / 120)
    assert agreement(table_of(truth, np.arange(120) % 3))["ari"] == pytest.approx(0, abs=0.02)
