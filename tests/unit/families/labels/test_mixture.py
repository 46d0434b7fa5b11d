"""A mixture of label models is that of their predicted distributions, and alone a model predicts as before."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy import stats

from hpctrain.families.labels.mixture import Mixture
from hpctrain.families.labels.network import HEADS, LabelNetwork
from hpctrain.families.labels.parts import Dropped, has_dropout
from hpctrain.families.labels.results import predicted_columns
from hpctrain.families.labels.section import LabelSection
from hpctrain.families.trees.targets import LeafLabels

LABELS = [
    LabelSection(column="type", kind="class", classes=["A", "B", "C"]),
    LabelSection(column="mass", kind="value", log10=True, centre=9.0, scale=0.5),
    LabelSection(column="angle", kind="circular", period=360),
    LabelSection(column="z", kind="density", range=(0, 2), bins=32, spacing="log1p"),
]


@dataclass
class Asked:
    """Samples with the outputs of the heads, as trees answer them."""

    outputs: list[torch.Tensor]
    has_input: torch.Tensor
    row: torch.Tensor = field(default_factory=lambda: torch.arange(6))
    labels: dict[str, torch.Tensor] = field(default_factory=dict)


def model_and_batch(seed):
    torch.manual_seed(seed)
    model = LeafLabels(LABELS)
    for head in model.heads:
        head.calibration.fill_(1.3)
    sizes = [3, 2, 3, 32]
    return model, Asked([torch.randn(6, size) for size in sizes], torch.tensor([True] * 5 + [False]))


def test_a_mixture_of_one_model_predicts_what_it_predicts():
    model, batch = model_and_batch(1)
    alone, mixed = predicted_columns(model, batch), Mixture([model], [1.0]).columns([batch])
    assert mixed.keys() == alone.keys()
    for name, values in alone.items():
        if values.dtype.kind == "S":
            assert np.array_equal(mixed[name], values)
        else:
            np.testing.assert_allclose(mixed[name], values, rtol=2e-4, atol=1e-5, err_msg=name)


def test_probabilities_are_weighted_means_and_values_have_mean_and_variance_of_the_mixture():
    (one, first), (two, second) = model_and_batch(1), model_and_batch(2)
    mixed = Mixture([one, two], [0.25, 0.75]).columns([first, second])
    a, b = predicted_columns(one, first), predicted_columns(two, second)
    np.testing.assert_allclose(mixed["type_PROB"][:5], (0.25 * a["type_PROB"] + 0.75 * b["type_PROB"])[:5], rtol=1e-4)
    logs = [np.log10(each["mass_PRED"][:5]) for each in (a, b)]
    mean = 0.25 * logs[0] + 0.75 * logs[1]
    sigmas = [each["mass_ERR"][:5] / (each["mass_PRED"][:5] * math.log(10)) for each in (a, b)]
    variance = 0.25 * (sigmas[0] ** 2 + (logs[0] - mean) ** 2) + 0.75 * (sigmas[1] ** 2 + (logs[1] - mean) ** 2)
    np.testing.assert_allclose(np.log10(mixed["mass_PRED"][:5]), mean, rtol=1e-5)
    found = mixed["mass_ERR"][:5] / (mixed["mass_PRED"][:5] * math.log(10))
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=1e-3)


def test_two_opposite_angles_leave_a_large_error():
    (one, first), (two, second) = model_and_batch(1), model_and_batch(1)
    second.outputs[2][:, :2] *= -1
    mixed, alone = Mixture([one, two], [0.5, 0.5]).columns([first, second]), predicted_columns(one, first)
    assert np.all(mixed["angle_ERR"][:5] > 2 * alone["angle_ERR"][:5])


def test_a_model_that_cannot_use_a_sample_has_no_weight_for_it():
    (one, first), (two, second) = model_and_batch(1), model_and_batch(2)
    second.has_input[:] = True
    mixed, other = Mixture([one, two], [0.9, 0.1]).columns([first, second]), predicted_columns(two, second)
    np.testing.assert_allclose(mixed["type_PROB"][5], other["type_PROB"][5], rtol=1e-4)
    nobody = Mixture([one], [1.0]).columns([first])
    assert nobody["type_PRED"][5] == b""
    assert np.isnan(nobody["z_PRED"][5])


def test_the_likelihood_of_a_label_is_that_of_the_predicted_distribution():
    outputs = torch.tensor([[0.4, 0.2]])
    head = HEADS["value"](LABELS[1], 1).eval()
    head.calibration.fill_(1.5)
    found = float(head.judged(outputs, {"mass": torch.tensor([10**9.3])})["NLL"])
    sigma = 0.5 * 1.5 * math.exp(0.5 * 12 * math.tanh(0.2 / 12))
    assert found == pytest.approx(-stats.norm(9.0 + 0.5 * 0.4, sigma).logpdf(9.3), rel=1e-4)
    head = HEADS["density"](LABELS[3], 1).eval()
    p = torch.randn(1, 32)
    place = int((math.log1p(1.0) - head.low) / head.step)
    expected = -math.log(float(p.softmax(dim=1)[0, place]) / head.step)
    assert float(head.judged(p, {"z": torch.tensor([1.0])})["NLL"]) == pytest.approx(expected, rel=1e-4)
    head = HEADS["circular"](LABELS[2], 1).eval()
    outputs = torch.tensor([[1.0, 0.0, 10 * math.atanh(math.log(4.0) / 10)]])
    found = head.judged(outputs, {"angle": torch.tensor([30.0, torch.nan])[:1]})["NLL"]
    assert float(found) == pytest.approx(-stats.vonmises(4.0).logpdf(math.radians(30)), rel=1e-4)


def test_the_parts_of_a_class_are_mean_entropy_and_mutual_information():
    (one, first), (two, second) = model_and_batch(1), model_and_batch(2)
    found = Mixture([one, two], [0.25, 0.75], parts=True).columns([first, second])
    p = [predicted_columns(model, batch)["type_PROB"][:5] for model, batch in ((one, first), (two, second))]
    within = 0.25 * stats.entropy(p[0], axis=1) + 0.75 * stats.entropy(p[1], axis=1)
    total = stats.entropy(0.25 * p[0] + 0.75 * p[1], axis=1)
    np.testing.assert_allclose(found["type_ALEATORIC"][:5], within, rtol=1e-5)
    np.testing.assert_allclose(found["type_EPISTEMIC"][:5], total - within, rtol=1e-3, atol=1e-6)
    assert np.isnan(found["type_EPISTEMIC"][5])


def test_the_parts_of_a_number_add_up_to_the_variance_of_the_mixture_and_equal_models_differ_in_nothing():
    (one, first), (two, second) = model_and_batch(1), model_and_batch(2)
    found = Mixture([one, two], [0.5, 0.5], parts=True).columns([first, second])
    a, b = predicted_columns(one, first), predicted_columns(two, second)
    within = 0.5 * (a["mass_ERR"] ** 2 + b["mass_ERR"] ** 2)
    np.testing.assert_allclose(found["mass_ALEATORIC"][:5] ** 2, within[:5], rtol=1e-4)
    np.testing.assert_allclose(
        found["mass_EPISTEMIC"][:5], 0.5 * np.abs(a["mass_PRED"] - b["mass_PRED"])[:5], rtol=1e-3
    )
    apart = np.abs((a["angle_PRED"] - b["angle_PRED"] + 180) % 360 - 180)
    np.testing.assert_allclose(found["angle_EPISTEMIC"][:5], 0.5 * apart[:5], rtol=1e-3)
    alone = Mixture([one, one], [0.5, 0.5], parts=True).columns([first, first])
    for label in ("type", "mass", "angle", "z"):
        assert alone[f"{label}_EPISTEMIC"][:5] == pytest.approx(0, abs=1e-5), label


def test_passes_with_dropout_depend_on_seed_and_pass_alone_and_leave_the_network_as_it_was():
    class Small(LabelNetwork):
        def __init__(self):
            super().__init__(LABELS[:1], 8)
            self.body = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5))

        def features(self, batch):
            return self.body(batch.outputs[0])

    torch.manual_seed(0)
    model = Small().eval()
    torch.nn.init.normal_(model.heads[0].linear.weight)
    batch = Asked([torch.randn(6, 3)], torch.ones(6, dtype=torch.bool))
    before = model.outputs(batch)[0][1]
    state = torch.get_rng_state()
    drawn = [Dropped(model, seed, number).outputs(batch)[0][1] for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])
    assert torch.equal(model.outputs(batch)[0][1], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert has_dropout(model)
    assert not has_dropout(LeafLabels(LABELS))
