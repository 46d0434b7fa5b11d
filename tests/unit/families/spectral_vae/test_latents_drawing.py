"""Drawings of the latent space."""

import re

import numpy as np
import pytest

from hpctrain.families.spectral_vae.latents_drawing import (
    chi2_histogram,
    class_figure,
    latent_figure,
    principal_components,
)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_principal_components_are_the_widest_directions(size):
    vectors = np.random.default_rng(0).normal(size=(500, size)) * np.geomspace(9, 0.1, size)
    components, shares = principal_components(vectors)
    assert components.shape == (500, 2)
    assert shares[0] >= shares[1] >= 0
    assert abs(np.corrcoef(components[:, 0], vectors[:, 0])[0, 1]) > 0.98


def test_the_histogram_is_logarithmic_and_its_label_keeps_off_the_axis():
    rng = np.random.default_rng(1)
    html = chi2_histogram({"RECON_MSE": np.concatenate([rng.normal(1.1, 0.05, 150), [30.0, 80.0, 200.0]])})
    low, high = map(float, re.search(r'data-x="(\S+) (\S+) log"', html).groups())
    assert low < 1 < high
    left = float(re.search(r'data-frame="(\S+) ', html)[1])
    labels = re.findall(r'translate\((\S+) \S+\) rotate\(-90\)" text-anchor="end" dy="(\S+)em">1: the', html)
    assert len(labels) == 2  # on a wide screen, and on a phone
    for place, side in labels:
        assert float(side) > 0 or float(place) - left > 16


@pytest.mark.parametrize("highest", [1.5, 4.0])
def test_latents_are_drawn_whether_or_not_a_spectrum_is_unusual(highest):
    rng = np.random.default_rng(2)
    score = np.concatenate([rng.uniform(0, 1, 39), [highest]])
    html = latent_figure(
        {"LATENT_VEC": rng.normal(size=(40, 3)), "redshift": rng.uniform(0, 1, 40), "ANOMALY_SCORE": score}
    )
    assert html.count("<svg") == 2  # on a wide screen, and on a phone
    assert (f"anomaly score {highest:.2f}" in html) == (highest > 3)


@pytest.mark.parametrize("kind", ["S8", "U8"])
def test_latents_are_coloured_by_the_class_of_the_survey(kind):
    names = np.array(["QSO"] * 20 + ["GALAXY"] * 15 + [""] * 5, dtype=kind)
    vectors = np.random.default_rng(3).normal(size=(40, 3))
    html = class_figure({"LATENT_VEC": vectors, "survey_spectype": names})
    assert html.index("QSO") < html.index("GALAXY")  # the most frequent first
    assert "c3" not in html


def test_one_class_needs_no_colours():
    vectors = np.random.default_rng(3).normal(size=(40, 3))
    assert class_figure({"LATENT_VEC": vectors, "survey_spectype": np.array([b"QSO"] * 40)}) == ""
    assert class_figure({"LATENT_VEC": vectors}) == ""
