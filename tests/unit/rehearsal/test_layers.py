"""The hooks that watch the layers of a network."""

from __future__ import annotations

import torch

from hpctrain.rehearsal.layers import Watch, first_bad


class Broken(torch.nn.Module):
    """Return NaN for the first sample."""

    def forward(self, x):
        return x / torch.arange(len(x)).sign()[:, None] * x.sign()


def network(*middle):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), *middle, torch.nn.Linear(4, 1))


def watched(model):
    watch = Watch(model)
    with watch.watching():
        model(torch.ones(5, 3)).sum().backward()
        with torch.no_grad():
            model[0].weight += 0.5
    return watch


def test_the_first_layer_whose_output_is_not_finite_is_found():
    forwards, backwards = first_bad(list(watched(network(Broken(), torch.nn.ReLU())).layers.values()))
    assert forwards.kind == "Broken"
    assert forwards.bad_activations == 4
    assert backwards is not None


def test_a_sound_network_has_no_such_layer_and_shares_of_gradients_add_up():
    watch = watched(network(torch.nn.ReLU()))
    layers = list(watch.layers.values())
    assert first_bad(layers) == (None, None)
    assert abs(sum((layer.gradient_share or 0) ** 2 for layer in layers) - 1) < 1e-6


def test_the_change_of_the_weights_is_measured_and_undone():
    model = network(torch.nn.ReLU())
    before = model[0].weight.detach().clone()
    watch = watched(model)
    assert abs(watch.layers["0"].update_norm - 0.5 * 12**0.5) < 1e-6
    assert watch.layers["2"].update_norm == 0
    watch.restore()
    assert torch.equal(model[0].weight, before)
    assert not model[0]._forward_hooks
