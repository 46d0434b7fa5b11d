"""Trees as plain arrays, forests and boosting, and what depends on nothing but seed and number."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import TINY, profile_values
from sklearn.tree import DecisionTreeRegressor

from hpctrain.families.held_out import HeldOut
from hpctrain.families.trees.family import FAMILY
from hpctrain.families.trees.grove import Grove, plain
from hpctrain.families.trees.histogram import MOST_BINS, Binned
from hpctrain.families.trees.importance import FILE, importance_table, write_importance
from hpctrain.families.trees.section import TreesSection
from hpctrain.families.trees.shapley import FILE as SHAP_FILE
from hpctrain.families.trees.shapley import shapley_table, shapley_values, write_shapley
from hpctrain.kinds.catalogue.kind import KIND
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile


class Grown:
    """A model that has grown some rounds on a tiny catalogue."""

    def __init__(self, folder: Path, name: str = "trees", num: int = 400, **model: Any) -> None:
        tiny = TINY[name]
        values = profile_values(tiny, tiny.tiny_file(folder / f"{num}.h5", num=num))
        self.profile = profile_of({**values, "model": {**values["model"], **model}})
        self.samples = KIND.open(self.profile.data)
        self.rows = np.arange(num)
        self.section = FAMILY.settle(self.profile.model, self.samples, self.rows)
        self.samples.labels = FAMILY.labels(self.section, self.samples)
        self.facts = KIND.facts(self.samples, self.rows)
        self.model = FAMILY.network(self.section, self.facts)
        self.sums: list[dict[str, float]] = []

    def grow(self, num_rounds: int) -> Grown:
        for number in range(len(self.sums), len(self.sums) + num_rounds):
            self.sums.append(self.model.do_round(number, self.rows, self.read, number + 7))
        return self

    def read(self, rows: np.ndarray) -> Any:
        return iter([self.samples.read(rows)])


def fresh(folder: Path, grown: Grown, num: int = 300) -> Any:
    """Return a batch of objects that the model has not seen."""
    path = TINY["trees"].tiny_file(folder / "new.h5", num=num, seed=99)
    samples = KIND.open(grown.profile.data.model_copy(update={"files": [str(path)]}))
    samples.labels = FAMILY.labels(grown.section, samples)
    return samples.read(np.arange(num))


def test_leaves_are_those_of_scikit_learn_also_for_missing_values():
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(500, 4)).astype(np.float32)
    inputs[rng.random(inputs.shape) < 0.2] = np.nan
    target = np.nansum(inputs, axis=1)
    trees = [DecisionTreeRegressor(min_samples_leaf=3, random_state=seed).fit(inputs, target) for seed in range(3)]
    grove = Grove([plain(tree) for tree in trees])
    new = rng.normal(size=(200, 4)).astype(np.float32)
    new[rng.random(new.shape) < 0.3] = np.nan
    found, start = grove.leaves(new), 0
    for number, tree in enumerate(trees):
        leaf_of_node = np.cumsum(tree.tree_.children_left == -1) - 1 + start
        np.testing.assert_array_equal(found[:, number], leaf_of_node[tree.apply(new)])
        start += tree.get_n_leaves()


def test_trees_do_not_depend_on_the_number_of_threads(tmp_path):
    states = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            states.append(Grown(tmp_path, num=100, trees_per_round=3).grow(2).model.state())
    finally:
        torch.set_num_threads(before)
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_few_values_are_split_where_exact_splits_are():
    """Each value has an interval of its own, so the least squares are those of all thresholds; some values miss."""
    rng = np.random.default_rng(5)
    inputs = rng.integers(0, 30, (600, 3)).astype(np.float32)
    inputs[rng.random(inputs.shape) < 0.1] = np.nan
    target = np.nan_to_num(inputs[:, 0]) + 0.2 * np.nan_to_num(inputs[:, 1]) ** 2 + rng.normal(size=600)
    section = TreesSection(family="trees", method="boosting", max_depth=4, min_leaf=7, features_per_split=1)
    tree, leaf = Binned(inputs).grow(np.arange(600), target, np.ones(600), section, rng, threads=1)
    other = DecisionTreeRegressor(min_samples_leaf=7, max_depth=4, random_state=0).fit(inputs, target)
    mean = np.bincount(leaf, target) / np.bincount(leaf)
    np.testing.assert_allclose(mean[leaf], other.predict(inputs), rtol=1e-4)
    np.testing.assert_array_equal(Grove([tree]).leaves(inputs)[:, 0], leaf)


def test_many_values_fall_into_intervals_of_about_as_many_objects():
    column = np.random.default_rng(6).exponential(size=50_000).astype(np.float32)
    counts = np.bincount(Binned(column[:, None]).codes[:, 0], minlength=MOST_BINS)
    assert counts.min() > 0.9 * 50_000 / MOST_BINS
    assert counts.max() < 1.1 * 50_000 / MOST_BINS


def test_histograms_do_not_depend_on_the_number_of_threads():
    inputs = np.random.default_rng(7).normal(size=(20_000, 5)).astype(np.float32)
    target = inputs[:, 0] * inputs[:, 1]
    section = TreesSection(family="trees", method="boosting", max_depth=6)
    rows = np.arange(20_000)
    one, three = (
        Binned(inputs).grow(rows, target, np.ones(20_000), section, np.random.default_rng(1), threads)[0]
        for threads in (1, 3)
    )
    for name in Grove.names:
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


@pytest.mark.parametrize(
    ("name", "splits"), [("trees", "exact"), ("trees-boosting", "exact"), ("trees-boosting", "histogram")]
)
def test_new_objects_are_predicted(tmp_path, name, splits):
    grown = Grown(tmp_path, name, learning_rate=0.3, splits=splits).grow(6)
    batch = fresh(tmp_path, grown)
    metrics = grown.model.metrics(grown.model.score(batch))
    assert metrics["colour_accuracy"] > 0.8
    assert metrics["size_rmse"] < 0.6  # the scatter of the label is 1.4
    if name == "trees":
        assert metrics["z_rmse"] < 0.1  # of 0.3, divided by 1 + z
        assert metrics["angle_rmse"] < 60


@pytest.mark.parametrize("splits", ["exact", "histogram"])
def test_boosting_lowers_the_loss_of_the_training_objects(tmp_path, splits):
    grown = Grown(tmp_path, "trees-boosting", splits=splits).grow(6)
    losses = [sums["loss_sum"] / sums["weight_sum"] for sums in grown.sums]
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_a_round_depends_on_its_number_and_the_seed_only(tmp_path):
    """A forest that skips a round grows the same trees in the next one."""
    whole, other = Grown(tmp_path, num=100).grow(2), Grown(tmp_path, num=100)
    other.model.do_round(1, other.rows, other.read, 8)
    number = len(whole.model.learners[0].grove) - 1
    mine, theirs = (grown.model.learners[0].grove.trees[-1] for grown in (whole, other))
    assert number == 3
    np.testing.assert_array_equal(mine.threshold, theirs.threshold)


def test_an_object_without_any_value_is_not_predicted(tmp_path):
    grown = Grown(tmp_path, num=100).grow(1)
    batch = grown.samples.read(np.arange(3))
    inputs = batch["inputs"].clone()
    inputs[1] = torch.nan
    columns = grown.model.predict(batch.with_tensors({"inputs": inputs}))
    assert torch.isfinite(columns["size_PRED"]).tolist() == [True, False, True]
    assert columns["colour_CODE"][1] == -1


def test_the_smoothing_of_a_density_follows_the_scatter_of_the_label(tmp_path):
    grown = Grown(tmp_path, labels=[{"column": "redshift", "kind": "density", "bins": 200}]).grow(4)
    batch = fresh(tmp_path, grown)
    inputs, labels = batch["inputs"].numpy(), dict(batch.labels)
    widths = []
    for scatter in (0.0, 0.08):
        noise = scatter * torch.randn(len(inputs), generator=torch.Generator().manual_seed(1))
        grown.model.choose_widths(inputs, {"redshift": (labels["redshift"] + noise).clamp(0.11, 0.89)})
        widths.append(float(grown.model.heads[0].width))
    assert widths[0] < widths[1]


def test_a_damaged_state_is_refused(tmp_path):
    grown = Grown(tmp_path, num=100).grow(1)
    state = grown.model.state()
    damaged = {**state, "0.left": state["0.left"] * 0}
    with pytest.raises(ValueError, match="leads to no node"):
        FAMILY.network(grown.section, grown.facts).load(damaged)


def test_importance_names_the_inputs_that_the_labels_follow_from(tmp_path):
    grown = Grown(tmp_path, labels=[{"column": "redshift", "kind": "density", "bins": 32}]).grow(4)
    held_out = HeldOut(
        samples=grown.samples,
        rows=grown.rows,
        prepare=lambda batch: batch,
        batch_size=100,
        device=torch.device("cpu"),
        tick=lambda done: None,
    )
    write_importance(grown.model, grown.facts.names, held_out, tmp_path)
    with np.load(tmp_path / FILE) as file:
        results = {name: file[name] for name in file}
    order = results["names"][np.argsort(-results["increase"])].tolist()
    assert order[0] == "g - r"
    assert results["increase"][results["names"] == "i"] < 0.1 * results["increase"].max()
    assert importance_table({FILE: results}).index("g - r") < importance_table({FILE: results}).index("<td>i</td>")


@pytest.mark.parametrize(
    ("name", "splits"), [("trees", "exact"), ("trees-boosting", "exact"), ("trees-boosting", "histogram")]
)
def test_what_is_explained_adds_up_to_what_the_trees_say(tmp_path, name, splits):
    grown = Grown(tmp_path, name, splits=splits).grow(2)
    inputs = grown.samples.inputs[:40]
    for learner in grown.model.learners:
        trees, _ = learner.explained()
        said = sum(values[Grove([tree]).leaves(inputs)[:, 0]] for tree, values in trees)
        mean = learner.mean(inputs)
        if learner.head.label.kind == "density":
            mean = mean @ np.expm1(learner.head.low + learner.head.step * (np.arange(16) + 0.5))[:, None]
        else:
            mean = mean[:, : said.shape[1]] * (learner.head.label.scale or 1.0)
        offset = mean - said  # of boosting, the constant it starts from
        np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=1e-9)


def test_shapley_values_add_up_and_name_the_inputs_that_count(tmp_path):
    pytest.importorskip("shap")
    grown = Grown(tmp_path, labels=[{"column": "redshift", "kind": "density", "bins": 32}]).grow(3)
    [learner] = grown.model.learners
    trees, _ = learner.explained()
    inputs, background = grown.samples.inputs[:30].copy(), grown.samples.inputs[100:120]
    inputs[3, 0] = np.nan
    values, expected = shapley_values(trees, inputs, background)
    said = sum(values[Grove([tree]).leaves(inputs)[:, 0]] for tree, values in trees)
    np.testing.assert_allclose(values.sum(axis=1) + expected, said, atol=1e-6)
    held_out = HeldOut(grown.samples, grown.rows, lambda batch: batch, 100, torch.device("cpu"), lambda done: None)
    write_shapley(grown.model, grown.facts.names, held_out, tmp_path)
    with np.load(tmp_path / SHAP_FILE) as file:
        results = {SHAP_FILE: {name: file[name] for name in file}}
    names, mean = results[SHAP_FILE]["names"], results[SHAP_FILE]["mean"]
    assert names[mean[0].argmax()] == "g - r"
    assert "g - r" in shapley_table(results)


def test_the_report_says_where_shapley_values_come_from_if_there_are_none():
    assert "hpctrain[shap]" in shapley_table({})


def test_keys_that_do_not_fit_together_are_named(tmp_path):
    tiny = TINY["trees"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    values["model"] = {**values["model"], "method": "boosting", "trees": 25, "trees_per_round": 10}
    values["data"] = {**values["data"], "differences": [["g", "y"]], "errors": {"u": "g_err"}}
    (tmp_path / "p.yaml").write_text(dump_profile(profile_of(values)))
    problems = {problem.where: problem.message for problem in check_profile(tmp_path / "p.yaml", memory=False).problems}
    assert "use 30" in problems["model.trees"]
    assert "method: forest only" in problems["model.labels.2.kind"]
    assert "method: forest only" in problems["model.labels.3.kind"]
    assert "'y' is not one of data.features" in problems["data.differences.0"]
    assert "'u' is not one of data.features" in problems["data.errors.u"]
