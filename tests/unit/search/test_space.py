"""A space knows its values, its conditions and its corners."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_parts import section_of

from hpctrain.search.section import StudySection
from hpctrain.search.space import AtRandom, Space

FAMILIES = {
    "model": {
        "choices": {
            "vae": {"family": "spectral_vae", "latent_size": 8},
            "cnn": {"family": "spectral_cnn", "labels": [{"column": "z", "kind": "value"}]},
        }
    },
    "model.latent_size": {"low": 2, "high": 16, "step": 2, "when": {"model": "vae"}},
    "model.dropout": {"low": 0.0, "high": 0.5, "when": {"model": ["cnn"]}},
    "train.batch_size": [32, 64],
}


def space_of(space):
    return Space.of(section_of(space=space).space)


@given(st.integers(0, 10**6))
def test_a_key_exists_only_where_its_condition_holds(seed):
    values = space_of(FAMILIES).pick(AtRandom(random.Random(seed)))
    assert ("model.latent_size" in values) == (values["model"] == "vae")
    assert ("model.dropout" in values) == (values["model"] == "cnn")
    assert values.get("model.latent_size", 2) in range(2, 17, 2)


def test_a_section_comes_before_the_keys_inside_it():
    space = space_of(FAMILIES)
    texts = space.overrides({"model.latent_size": 4, "train.batch_size": "64", "model": "vae"})
    assert texts == [
        'model={"family": "spectral_vae", "latent_size": 8}',
        "model.latent_size=4",
        "train.batch_size=64",
    ]


def test_every_end_of_every_key_is_among_the_corners():
    points = list(space_of(FAMILIES).corners())
    for key, ends in {
        "model.latent_size": {2, 16},
        "model.dropout": {0.0, 0.5},
        "train.batch_size": {"32", "64"},
    }.items():
        assert {point[key] for point in points if key in point} == ends
    assert all(("model.dropout" in point) == (point["model"] == "cnn") for point in points)


def test_a_large_space_has_few_corners():
    space = space_of({f"train.key{index}": {"low": 0.0, "high": 1.0} for index in range(40)})
    assert len(list(space.corners())) <= 160


def test_a_grid_has_every_combination_that_exists_once():
    grid = space_of(
        {**FAMILIES, "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.25, "when": {"model": "cnn"}}}
    ).grid()
    assert len(grid) == (8 + 3) * 2
    assert len({repr(sorted(point.items())) for point in grid}) == len(grid)


def test_a_continuous_range_has_no_grid():
    with pytest.raises(ValueError, match=r"model\.dropout has a continuous range"):
        space_of(FAMILIES).grid()


@given(st.floats(0, 1, exclude_max=True))
def test_shares_of_a_range_stay_inside_it(share):
    parameters = {parameter.key: parameter for parameter in Space.of(section_of().space).parameters}
    assert 1e-4 <= parameters["train.learning_rate"].at(share) <= 1e-2
    assert parameters["model.latent_size"].at(share) in range(2, 7)
    assert parameters["model.dropout"].at(share) in ("0.0", "0.1")


def test_half_of_a_logarithmic_range_is_its_geometric_mean():
    parameter = Space.of(section_of().space).parameters[0]
    assert math.isclose(parameter.at(0.5), 1e-3, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"low": 1, "high": 1}, "low < high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low > 0"),
        ({"low": 1}, "low and high, or choices"),
        ({"choices": []}, "no choice"),
        ({"choices": [1, 1]}, "same choice twice"),
        ({"choices": [1], "low": 3}, "mean nothing"),
        ({"low": 0, "high": 4, "step": 9}, "step above 0 and at most"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(key, message):
    with pytest.raises(ValueError, match=message):
        StudySection.model_validate({"name": "x", "base": "b", "trials": 1, "space": {"train.x": key}})
