"""Monotone maps of probabilities, the same in numpy and torch, in heads and through a mixture."""

import numpy as np
import pytest
import torch

from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead
from hpctrain.families.labels.mixture import mix
from hpctrain.families.labels.monotone import (
    apply_classes,
    apply_density,
    fit_classes,
    fit_density,
    identity_of_classes,
    identity_of_density,
    slope_of_density,
)
from hpctrain.families.labels.network import LabelNetwork
from hpctrain.families.labels.remapped import remapped_classes, remapped_density
from hpctrain.families.labels.section import LabelSection

CLASS = {"column": "x", "kind": "class", "classes": ["a", "b", "c"]}
DENSITY = {"column": "z", "kind": "density", "range": (0.0, 1.0), "bins": 64}


def bent(size, seed=0):
    """Logits of three classes whose true probabilities are no power of the predicted ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true_p = p * np.array([0.5, 1.0, 2.0])
    true_p /= true_p.sum(axis=1, keepdims=True)
    return torch.from_numpy(logits).float(), (rng.uniform(size=(size, 1)) > true_p.cumsum(axis=1)).sum(axis=1)


def test_maps_that_change_nothing_change_nothing():
    p = torch.from_numpy(np.random.default_rng(0).dirichlet([0.3] * 3, size=50)).float()
    p = p.clamp(1e-4) / p.clamp(1e-4).sum(dim=1, keepdim=True)
    same = remapped_classes(torch.from_numpy(identity_of_classes(3)).float(), p)
    torch.testing.assert_close(same, p, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(remapped_density(torch.from_numpy(identity_of_density()), p), p, atol=1e-6, rtol=1e-5)


def test_tensors_and_arrays_are_mapped_alike():
    logits, codes = bent(2000)
    p = logits.softmax(dim=1)
    tables = fit_classes(p.numpy(), codes)
    assert np.all(np.diff(tables, axis=1) >= 0)
    found = remapped_classes(torch.from_numpy(tables).float(), p)
    np.testing.assert_allclose(found.numpy(), apply_classes(tables, p.numpy()), atol=2e-4)
    table = fit_density(np.random.default_rng(1).beta(2, 2, size=2000))
    bins = torch.full((1, 40), 1 / 40)
    expected = np.diff(apply_density(table, np.linspace(0, 1, 41)))
    np.testing.assert_allclose(remapped_density(torch.from_numpy(table), bins)[0].numpy(), expected, atol=1e-6)


def test_isotonic_classes_learn_what_no_temperature_can():
    logits, codes = bent(6000)
    labels = {"x": torch.from_numpy(codes)}
    losses = {}
    for method in ("temperature", "isotonic"):
        head = ClassHead(LabelSection(**CLASS, calibration=method), 4)
        head.calibrate(logits[:3000], {"x": labels["x"][:3000]})
        judged = head.eval().judged(logits[3000:], {"x": labels["x"][3000:]})
        losses[method] = judged["LOG_LOSS"].mean().item()
        sums = head.sums(logits[3000:], {"x": labels["x"][3000:]}, torch.ones(3000, dtype=torch.bool))
        assert sums["nll"].item() / 3000 == pytest.approx(losses[method], rel=1e-5)
    assert losses["isotonic"] < losses["temperature"] - 0.03


def test_the_map_of_a_density_makes_its_pit_flat_on_other_objects():
    rng = np.random.default_rng(2)
    middle, width = rng.uniform(0.3, 0.7, size=4000), 0.05
    # a skewed truth that the normal density does not know: PIT is not flat, and no temperature mends it
    truth = torch.from_numpy(middle + width * (rng.gamma(2, 1, size=4000) - 1.2)).float().clamp(0.001, 0.999)
    centres = (torch.arange(64) + 0.5) / 64
    outputs = -0.5 * ((centres[None] - torch.from_numpy(middle)[:, None].float()) / width) ** 2
    spread = {}
    for method in ("temperature", "isotonic"):
        head = DensityHead(LabelSection(**DENSITY, calibration=method), 4)
        head.calibrate(outputs[:2000], {"z": truth[:2000]})
        judged = head.eval().judged(outputs[2000:], {"z": truth[2000:]})
        pit = np.sort(judged["PIT"].numpy())
        spread[method] = np.abs(pit - np.arange(2000) / 2000).max(), judged["NLL"].mean().item()
        torch.testing.assert_close(head.probability(outputs).sum(dim=1), torch.ones(4000), atol=1e-5, rtol=0)
    assert spread["isotonic"][0] < 0.05 < spread["temperature"][0]
    assert spread["isotonic"][1] < spread["temperature"][1] - 0.05


def test_the_slope_of_a_map_is_what_it_multiplies_a_density_by():
    table = fit_density(np.random.default_rng(3).beta(2, 5, size=3000))
    at = np.array([0.101, 0.5005, 0.93])
    change = (apply_density(table, at + 1e-6) - apply_density(table, at - 1e-6)) / 2e-6
    assert slope_of_density(table, at) == pytest.approx(change, rel=1e-6)
    assert slope_of_density(table, np.array([0.999, 1.0])).min() >= 0.02 - 1e-9  # nothing becomes impossible


def test_too_few_labels_leave_the_map_as_it_is_and_none_calibrates_nothing():
    logits, codes = bent(150)
    head = ClassHead(LabelSection(**CLASS, calibration="isotonic"), 4)
    head.calibrate(logits, {"x": torch.from_numpy(codes)})
    np.testing.assert_allclose(head.monotone.numpy(), identity_of_classes(3), atol=1e-6)
    network = LabelNetwork([LabelSection(**CLASS, calibration="none")], 4)
    network.calibrate({"x": 3 * logits}, {"x": torch.from_numpy(codes)})
    assert float(network.heads[0].calibration) == 1.0


def test_a_mixture_mixes_mapped_probabilities_once():
    logits, codes = bent(1000)
    head = ClassHead(LabelSection(**CLASS, calibration="isotonic"), 4).eval()
    head.calibrate(logits, {"x": torch.from_numpy(codes)})
    mixed, outputs = mix([(head, logits), (head, logits)], torch.full((2, 1000), 0.5))
    torch.testing.assert_close(mixed.probability(outputs), head.probability(logits), atol=1e-6, rtol=1e-5)
