"""Cells of magnitude and colour get about the same weight in the loss; without the key nothing changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpctrain.errors import DataError
from hpctrain.families.labels.balance import settle_balance, weights_of
from hpctrain.families.labels.columns import read_labels, settle_label
from hpctrain.families.labels.network import LabelNetwork
from hpctrain.families.labels.section import BalanceSection, LabelSection
from hpctrain.families.trees.targets import LeafLabels, targets_of


def samples(**columns: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(column=lambda name: columns[name])


def faint_and_bright() -> SimpleNamespace:
    rng = np.random.default_rng(4)
    r = np.concatenate([rng.uniform(17, 18, 900), rng.uniform(14, 17, 100)])
    return samples(r=r, z=rng.uniform(0.1, 0.2, 1000))


def test_every_cell_has_about_the_same_weight_up_to_the_largest_one():
    found = faint_and_bright()
    balance = settle_balance(BalanceSection(columns=["r"], bins=4, largest=100.0), found, np.arange(1000))
    weights = weights_of(balance, found)
    assert weights.mean() == pytest.approx(1.0)
    sums = np.bincount(np.searchsorted(balance.edges[0], found.column("r"), side="right"), weights)
    assert sums == pytest.approx(np.full(4, 250.0), rel=1e-5)
    capped = weights_of(
        settle_balance(BalanceSection(columns=["r"], bins=4, largest=3.0), found, np.arange(1000)), found
    )
    assert capped.max() / capped.min() == pytest.approx(3.0)


def test_held_out_samples_have_no_part_in_the_weights_and_a_missing_value_weighs_one():
    found = faint_and_bright()
    balance = BalanceSection(columns=["r", "z"], bins=3)
    settled = settle_balance(balance, found, np.arange(500))
    assert (
        settle_balance(balance, samples(r=found.column("r")[:500], z=found.column("z")[:500]), np.arange(500))
        == settled
    )
    assert weights_of(settled, samples(r=np.array([np.nan]), z=np.array([0.15]))).tolist() == [1.0]


def test_a_column_that_makes_no_cells_is_refused():
    with pytest.raises(DataError, match="nearly all training samples have the same value"):
        settle_balance(BalanceSection(columns=["r"]), samples(r=np.ones(50)), np.arange(50))
    with pytest.raises(DataError, match="holds texts"):
        settle_balance(BalanceSection(columns=["r"]), samples(r=np.array(["a"] * 50)), np.arange(50))


def label(**keys) -> LabelSection:
    return LabelSection.model_validate({"column": "z", "kind": "value", **keys})


@torch.no_grad()
def test_the_loss_of_networks_and_trees_counts_an_object_with_its_weight():
    found = faint_and_bright()
    settled = settle_label(label(balance={"columns": ["r"], "bins": 4}), found, np.arange(1000), None)
    arrays = read_labels([settled], found)
    weights = arrays["z.weight"]

    class Network(LabelNetwork):
        def features(self, batch):
            return torch.zeros(1000, 2)

    torch.manual_seed(0)
    network = Network([settled], 2)
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    batch = SimpleNamespace(row=torch.arange(1000), labels=tensors)
    plain = SimpleNamespace(row=batch.row, labels={"z": tensors["z"]})
    head, outputs = network.outputs(batch)[0]
    each, _ = head.loss(outputs, plain.labels)
    sums = network(batch)
    assert sums["weight_sum"].item() == pytest.approx(weights.sum(), rel=1e-5)
    assert sums["loss_sum"].item() == pytest.approx(float((tensors["z.weight"] * each).sum()), rel=1e-5)
    assert network(plain)["weight_sum"].item() == 1000.0
    leaves = LeafLabels([settled])
    _, of_trees = targets_of(leaves.heads[0], arrays)
    assert of_trees == pytest.approx(weights.astype(np.float64))


def test_an_object_without_the_label_has_no_weight():
    found = faint_and_bright()
    found.column("z")[3] = np.nan
    settled = settle_label(label(balance={"columns": ["r"]}), found, np.arange(1000), None)
    arrays = read_labels([settled], found)
    assert np.isnan(arrays["z.weight"][3])
    assert np.isfinite(np.delete(arrays["z.weight"], 3)).all()
