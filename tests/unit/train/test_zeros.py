"""Pruned weights stay pruned; nothing else changes."""

from __future__ import annotations

import torch

from hpctrain.train.adamw import AdamW
from hpctrain.train.zeros import find_zeros, mask_gradients


def test_weights_that_are_zero_at_the_start_stay_zero_and_the_others_learn():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.nn.Parameter(torch.randn(6, 5, generator=generator))
    bias = torch.nn.Parameter(torch.zeros(5))
    with torch.no_grad():
        matrix[::2] = 0.0
    start = matrix.detach().clone()
    optimizer = AdamW([([matrix], 0.1), ([bias], 0.0)], (0.9, 0.99), 1e-8)
    masks = find_zeros([matrix, bias])
    assert [parameter is matrix for parameter, _ in masks] == [True]
    for _ in range(5):
        matrix.grad = torch.randn(6, 5, generator=generator)
        bias.grad = torch.ones(5)
        mask_gradients(masks)
        optimizer.step(0.1, torch.tensor(0.0))
    assert (matrix[::2] == 0).all()
    assert (matrix[1::2] != start[1::2]).all()
    assert (bias != 0).all()  # a bias starts at 0 in every network
    assert (optimizer.state[matrix]["exp_avg"][::2] == 0).all()


def test_a_network_without_zeros_needs_no_mask():
    assert find_zeros([torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.zeros(3))]) == []


def test_the_norm_that_is_clipped_is_that_of_the_weights_that_learn():
    matrix = torch.nn.Parameter(torch.tensor([[0.0, 1.0]]))
    matrix.grad = torch.tensor([[1e6, 3.0]])
    mask_gradients(find_zeros([matrix]))
    assert matrix.grad.norm() == 3.0
