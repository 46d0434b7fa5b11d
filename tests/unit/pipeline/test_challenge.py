"""A candidate takes the place of the version in service only if it is better somewhere and worse nowhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hpctrain.errors import DataError, GateError
from hpctrain.pipeline.challenge import Rules, TestSet, compare_on, decide
from hpctrain.pipeline.frozen import file_of, refuse_trained, require_frozen
from hpctrain.profile.sections.validate import BinsSection
from hpctrain.registry.folder import Registry
from hpctrain.validation.comparison.entrants import Entrant

sys.path.insert(0, str(Path(__file__).parents[1] / "validation"))
from made_judged import make_judged

NUM = 600
RULES = Rules(metrics=("Z.rmse",), draws=300)


def a_set(name, path, scatter_now, scatter_then, num=NUM, seed=1, **columns):
    """Return a test set on which both models have errors of these sizes, which are much alike."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=num), rng.normal(size=(2, num))
    then, now = np.array([[scatter_then], [1.0]]) * np.ones((2, num)) * (0.95 * shared + 0.3 * own)
    both = [make_judged(path, residual, **columns) for residual in (then, scatter_now * now)]
    return TestSet(name, Entrant("photoz:1", both[0]), Entrant("candidate", both[1]))


def decided(rules, *sets):
    return decide([each for test in sets for each in compare_on(test, rules)], rules, "photoz:1")


def test_better_on_the_newest_data_and_no_worse_on_the_frozen_ones_passes(tmp_path):
    found = decided(RULES, a_set("frozen", tmp_path, 0.1, 0.1), a_set("newest", tmp_path, 0.1, 0.14, seed=2))
    assert found.passed
    assert found.why.startswith("better than photoz:1: newest data: Z ")
    assert found.why.endswith("; worse in none of 1 other comparisons")


def test_as_good_is_not_better(tmp_path):
    found = decided(RULES, a_set("frozen", tmp_path, 0.1, 0.1), a_set("newest", tmp_path, 0.1, 0.1, seed=2))
    assert not found.passed
    assert found.why.startswith("not better than photoz:1: frozen data: Z ")


def test_worse_on_the_frozen_data_does_not_pass_unless_that_much_is_allowed(tmp_path):
    sets = a_set("frozen", tmp_path, 0.13, 0.1), a_set("newest", tmp_path, 0.1, 0.14, seed=2)
    found = decided(RULES, *sets)
    assert not found.passed
    assert found.why.startswith("worse than photoz:1: frozen data: Z ")
    assert decided(Rules(metrics=("Z.rmse",), draws=300, allow=0.5), *sets).passed


def test_worse_in_one_bin_does_not_pass_although_better_on_the_whole(tmp_path):
    faint = np.arange(NUM) % 5 == 0
    columns = {"r": np.where(faint, 22.0, 18.0)}
    scatter = np.where(faint, 0.2, 0.06)
    sets = a_set("frozen", tmp_path, 0.1, 0.1, **columns), a_set("newest", tmp_path, scatter, 0.14, seed=2, **columns)
    assert decided(RULES, *sets).passed
    found = decided(Rules(RULES.metrics, bins=(BinsSection(column="r", edges=[20.0]),), draws=300), *sets)
    assert not found.passed
    assert "newest data (r from 20)" in found.why


def test_too_few_objects_end_it(tmp_path):
    with pytest.raises(GateError, match="19 objects of the newest data are on the test side"):
        compare_on(a_set("newest", tmp_path, 0.1, 0.2, num=19), RULES)


def test_frozen_files_must_stay_as_they_were(tmp_path):
    model = Registry(tmp_path / "registry").model("photoz")
    for name in "ab":
        (tmp_path / name).write_text(name)
    paths = [str(tmp_path / name) for name in "ab"]
    first = require_frozen(model, paths)
    assert json.loads(file_of(model).read_text())["files"] == first
    assert require_frozen(model, paths[::-1]) == first
    (tmp_path / "b").write_text("c")
    with pytest.raises(DataError, match=r"b: SHA-256 2e7d2c03a950 is new\n.*b: SHA-256 3e23e8160039 is gone"):
        require_frozen(model, paths)


def test_frozen_objects_on_which_a_version_was_trained_are_refused():
    refuse_trained(np.array([1, 2]), {"photoz:1": np.array([3])})
    with pytest.raises(DataError, match="photoz:2: 1 objects, such as 2"):
        refuse_trained(np.array([1, 2]), {"photoz:1": np.array([3]), "photoz:2": np.array([2, 3])})
