"""Losses, metrics and calibrated uncertainties of labels, against closed forms and draws from known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from hpctrain.families.labels.circular_head import LOG_CONCENTRATION_LIMIT, CircularHead
from hpctrain.families.labels.class_head import ClassHead
from hpctrain.families.labels.density_head import DensityHead
from hpctrain.families.labels.section import LabelSection
from hpctrain.families.labels.value_head import LOG_VARIANCE_LIMIT, ValueHead

NAN = math.nan


def class_head(**keys) -> ClassHead:
    return ClassHead(LabelSection(column="x", kind="class", classes=["A", "B", "C"], **keys), 4)


def value_head(**keys) -> ValueHead:
    return ValueHead(LabelSection(column="x", kind="value", **{"centre": 0.0, "scale": 1.0, **keys}), 4)


def density_head(**keys) -> DensityHead:
    values = {"range": (0.0, 4.0), "bins": 64, "spacing": "log1p", **keys}
    return DensityHead(LabelSection(column="z", kind="density", **values), 4)


def before_the_bound(value: float, limit: float) -> float:
    """Return the output that becomes `value` by the soft bound of log variances and concentrations."""
    return limit * math.atanh(value / limit)


def log_variance(sigma: float) -> float:
    return before_the_bound(2 * math.log(sigma), LOG_VARIANCE_LIMIT)


def test_missing_labels_add_exactly_nothing_and_give_no_gradient():
    torch.manual_seed(1)
    angle = CircularHead(LabelSection(column="x", kind="circular", period=360), 4)
    for head in (class_head(), value_head(), density_head(), angle):
        missing = torch.tensor([-1, -1]) if isinstance(head, ClassHead) else torch.tensor([NAN, NAN])
        outputs = torch.randn(2, head.linear.out_features, requires_grad=True)
        loss, weight = head.loss(outputs, {head.title: missing})
        loss.sum().backward()
        assert loss.tolist() == weight.tolist() == [0.0, 0.0]
        assert outputs.grad.abs().max() == 0


def test_class_weights_weigh_loss_and_number_alike():
    head = class_head(class_weights=[1.0, 2.0, 0.5])
    outputs = torch.zeros(3, 3)
    loss, weight = head.loss(outputs, {"x": torch.tensor([0, 1, 2])})
    assert weight.tolist() == [1.0, 2.0, 0.5]
    torch.testing.assert_close(loss, weight * math.log(3))


def test_accuracy_and_macro_f1_are_those_of_scikit_learn():
    from sklearn.metrics import f1_score

    torch.manual_seed(2)
    head, outputs, codes = class_head().eval(), torch.randn(200, 3), torch.randint(-1, 3, (200,))
    sums = head.sums(outputs, {"x": codes}, torch.ones(200, dtype=torch.bool))
    found = head.metrics({name: float(value) for name, value in sums.items()})
    known = codes >= 0
    true, predicted = codes[known].numpy(), outputs.argmax(dim=1)[known].numpy()
    assert found["accuracy"] == pytest.approx(np.mean(true == predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))


def test_the_temperature_undoes_overconfidence():
    torch.manual_seed(3)
    logits = torch.randn(20_000, 3)
    codes = torch.distributions.Categorical(logits=logits).sample()
    head = class_head()
    head.calibrate(4 * logits, {"x": codes})
    assert float(head.calibration) == pytest.approx(4.0, rel=0.05)


def test_a_gaussian_has_the_likelihood_of_scipy_with_the_error_of_the_label():
    head = value_head(error="x_err").eval()
    outputs = torch.tensor([[0.5, log_variance(0.2)]])
    loss, _ = head.loss(outputs, {"x": torch.tensor([1.0]), "x.error": torch.tensor([0.3])})
    expected = -stats.norm(0.5, math.sqrt(0.04 + 0.09)).logpdf(1.0) - 0.5 * math.log(2 * math.pi)
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_a_label_with_a_large_error_pulls_less():
    head = value_head(error="x_err")
    outputs = torch.zeros(2, 2, requires_grad=True)
    loss, _ = head.loss(outputs, {"x": torch.tensor([1.0, 1.0]), "x.error": torch.tensor([0.0, 3.0])})
    loss.sum().backward()
    assert abs(float(outputs.grad[1, 0])) < 0.5 * abs(float(outputs.grad[0, 0]))


def test_the_error_scale_makes_68_per_cent_fall_within_one_sigma():
    torch.manual_seed(4)
    truth = 2.5 * torch.randn(20_000)
    outputs = torch.zeros(20_000, 2)
    head = value_head().eval()
    head.calibrate(outputs, {"x": truth})
    assert float(head.calibration) == pytest.approx(2.5, rel=0.03)
    judged = head.judged(outputs, {"x": truth})
    assert float(judged["PIT"].mean()) == pytest.approx(0.5, abs=0.01)
    assert float((judged["PULL"].abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.01)


def test_too_few_labels_leave_the_uncertainty_as_it_is():
    head = value_head()
    head.calibrate(torch.zeros(19, 2), {"x": torch.randn(19)})
    assert float(head.calibration) == 1.0


def test_a_logarithm_is_learned_but_predictions_are_in_the_unit_of_the_column():
    head = value_head(log10=True, centre=3.7, scale=0.1).eval()
    columns = head.columns(torch.tensor([[1.0, log_variance(0.1)]]))
    assert float(columns["PRED"]) == pytest.approx(10**3.8, rel=1e-4)
    assert float(columns["ERR"]) == pytest.approx(10**3.8 * math.log(10) * 0.01, rel=1e-3)


def test_the_crps_of_a_gaussian_is_the_integral_that_defines_it():
    head = value_head().eval()
    found = float(head.judged(torch.tensor([[0.2, log_variance(0.7)]]), {"x": torch.tensor([1.1])})["CRPS"])
    normal = stats.norm(0.2, 0.7)
    below, _ = integrate.quad(lambda x: normal.cdf(x) ** 2, -8, 1.1)
    above, _ = integrate.quad(lambda x: (1 - normal.cdf(x)) ** 2, 1.1, 8)
    assert found == pytest.approx(below + above, rel=1e-3)


def test_an_angle_has_the_likelihood_of_scipy_and_residuals_take_the_shorter_way():
    head = CircularHead(LabelSection(column="x", kind="circular", period=360), 4).eval()
    angle, kappa = math.radians(350), 5.0
    concentration = before_the_bound(math.log(kappa), LOG_CONCENTRATION_LIMIT)
    outputs = torch.tensor([[2 * math.cos(angle), 2 * math.sin(angle), concentration]])
    labels = {"x": torch.tensor([10.0])}
    expected = -stats.vonmises(kappa, loc=angle).logpdf(math.radians(10))
    assert float(head.loss(outputs, labels)[0]) == pytest.approx(expected, rel=1e-3)
    assert float(head.judged(outputs, labels)["RESIDUAL"]) == pytest.approx(-20.0, rel=1e-3)
    assert float(head.columns(outputs)["PRED"]) == pytest.approx(350.0, rel=1e-5)


def test_a_density_learns_the_place_within_a_bin():
    head = density_head()
    truth = torch.tensor([1.2345])
    outputs = torch.zeros(1, 64, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(outputs, {"z": truth})[0].sum().backward()
        optimizer.step()
    columns = head.columns(outputs.detach())
    assert float(columns["PRED"]) == pytest.approx(1.2345, abs=0.1 * head.step * 2.2345)
    assert float(columns["LOW"]) < 1.2345 < float(columns["HIGH"])
    assert float(columns["PEAK"]) > 0.99


def test_pit_and_crps_of_a_density_are_the_integrals_that_define_them():
    torch.manual_seed(5)
    head = density_head(spacing="linear", bins=16).eval()
    outputs, truth = torch.randn(1, 16), 1.3
    judged = head.judged(outputs, {"z": torch.tensor([truth])})
    p = outputs.softmax(dim=1)[0].double().numpy()
    edges = np.linspace(0, 4, 17)
    fine = np.linspace(0, 4, 160_001)
    below = np.interp(fine, edges, np.concatenate([[0], np.cumsum(p)]))
    assert float(judged["PIT"]) == pytest.approx(np.interp(truth, fine, below), rel=1e-4)
    assert float(judged["CRPS"]) == pytest.approx(np.mean((below - (fine >= truth)) ** 2) * 4, rel=1e-3)


@pytest.mark.parametrize("spacing", ["linear", "log1p"])
def test_the_loss_of_a_density_is_that_of_the_density_of_the_value_itself(spacing):
    torch.manual_seed(5)
    head = density_head(spacing=spacing, bins=16).eval()
    outputs, truth = torch.randn(1, 16), 1.3
    found = float(head.judged(outputs, {"z": torch.tensor([truth])})["CDE_LOSS"])
    fine = np.linspace(0, 4, 400_001)
    below = np.interp(
        np.log1p(fine) if spacing == "log1p" else fine, head.edges, np.cumsum([0, *outputs.softmax(1)[0]])
    )
    density = np.gradient(below, fine)
    expected = np.sum(density[:-1] ** 2) * fine[1] - 2 * np.interp(truth, fine, density)
    assert found == pytest.approx(expected, rel=1e-3)


def test_calibrated_densities_have_a_flat_pit():
    torch.manual_seed(6)
    head = density_head(spacing="linear", bins=32).eval()
    logits = torch.randn(20_000, 32)
    bin_of_truth = torch.distributions.Categorical(logits=logits).sample()
    truth = (bin_of_truth + torch.rand(20_000)) * 4 / 32
    head.calibrate(3 * logits, {"z": truth})
    assert float(head.calibration) == pytest.approx(3.0, rel=0.05)
    pit = head.judged(3 * logits, {"z": truth})["PIT"].numpy()
    assert stats.kstest(pit, "uniform").statistic < 0.015


def test_residuals_of_a_logarithmic_grid_are_divided_by_one_plus_z():
    head = density_head().eval()
    outputs = torch.full((1, 64), -20.0)
    outputs[0, 32] = 20.0
    judged, predicted = head.judged(outputs, {"z": torch.tensor([1.0])}), head.columns(outputs)["PRED"]
    assert float(judged["RESIDUAL"]) == pytest.approx((float(predicted) - 1.0) / 2.0, rel=1e-4)
