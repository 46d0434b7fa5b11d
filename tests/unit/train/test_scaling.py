"""The gradient is divided and clipped as torch would do it, and a bad one changes nothing."""

import pytest
import torch

from hpctrain.train.scaling import LossScale, scale_and_clip


@pytest.mark.parametrize("clip_norm", [None, 0.1, 1e9])
def test_scaling_and_clipping_agree_with_torch(clip_norm):
    torch.manual_seed(1)
    gradients = [torch.randn(4, 3), torch.randn(5)]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient * 0.25
    expected = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
    norm, nonfinite = scale_and_clip(gradients, torch.tensor(0.25), clip_norm)
    assert norm == pytest.approx(expected)
    assert nonfinite == 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_leaves_weights_and_moments_alone(bad):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    parameter.grad = torch.ones(3)
    optimizer.step()
    before = parameter.detach().clone(), {k: v.clone() for k, v in optimizer.state[parameter].items()}
    parameter.grad = torch.tensor([1.0, bad, 1.0])
    _, optimizer.found_inf = scale_and_clip([parameter.grad], torch.tensor(1.0), 1.0)
    optimizer.step()
    assert torch.equal(parameter, before[0])
    assert all(torch.equal(optimizer.state[parameter][k], v) for k, v in before[1].items())


def test_the_loss_scale_halves_after_a_bad_step_and_doubles_after_many_good_ones():
    scale = LossScale("fp16", torch.device("cpu"))
    start = float(scale.value)
    scale.update(torch.tensor(1.0))
    assert float(scale.value) == start / 2
    for _ in range(2000):
        scale.update(torch.tensor(0.0))
    assert float(scale.value) == start


def test_other_precisions_do_not_scale():
    scale = LossScale("bf16", torch.device("cpu"))
    scale.update(torch.tensor(1.0))
    assert float(scale.value) == 1.0
