"""The optimizer computes what torch's does, bit by bit, and nothing where the gradient is not finite."""

import subprocess
import sys

import pytest
import torch

from hpctrain.train.adamw import AdamW

GOOD = torch.tensor(0.0)


def _parameters():
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (5,), (3, 2, 4))]


def test_the_bits_are_those_of_torch():
    ours, theirs = _parameters(), _parameters()
    optimizer = AdamW([([ours[0], ours[2]], 0.1), ([ours[1]], 0.0)], (0.9, 0.98), 1e-8)
    groups = [{"params": [theirs[0], theirs[2]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, fused=True)
    generator = torch.Generator().manual_seed(2)
    for step in range(20):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for group in reference.param_groups:
            group["lr"] = 0.01 / (step + 1)
        reference.step()
        optimizer.step(0.01 / (step + 1), GOOD)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        assert {name: value.tolist() for name, value in optimizer.state[one].items()} == {
            name: value.tolist() for name, value in reference.state[other].items()
        }


def test_a_step_that_is_not_finite_leaves_weights_and_moments_alone():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([([parameter], 0.1)], (0.9, 0.999), 1e-8)
    parameter.grad = torch.ones(3)
    optimizer.step(0.1, GOOD)
    before = parameter.detach().clone(), {name: value.clone() for name, value in optimizer.state[parameter].items()}
    parameter.grad = torch.tensor([1.0, float("nan"), 1.0])
    optimizer.step(0.1, torch.tensor(1.0))
    assert torch.equal(parameter, before[0])
    assert all(torch.equal(optimizer.state[parameter][name], value) for name, value in before[1].items())


@pytest.fixture(scope="module")
def imported():
    """The modules that a process has imported when it has made a step."""
    code = (
        "import sys, torch, hpctrain.train.attempt\n"
        "from hpctrain.train.adamw import AdamW\n"
        "p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)\n"
        "AdamW([([p], 0.1)], (0.9, 0.999), 1e-8).step(0.1, torch.tensor(0.0))\n"
        "print(*sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torch._dynamo", "sklearn", "matplotlib", "tensorboard", "scipy"])
def test_an_attempt_starts_without_what_it_may_never_need(imported, module):
    assert "torch" in imported
    assert module not in imported
