"""Integer matrix products as CPUs compute them, in numpy: exact, and with the saturation of VPMADDUBSW.

M rows, K terms, C output channels.
"""

from __future__ import annotations

import numpy as np

LARGEST, SMALLEST = np.iinfo(np.int16).max, np.iinfo(np.int16).min


def exact(activation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Add all products in 32 bits, as VPDPBUSD (VNNI) does.

    Parameters
    ----------
    activation : ndarray, shape (M, K), uint8
    weight : ndarray, shape (K, C), int8
    """
    return activation.astype(np.int32) @ weight.astype(np.int32)


def saturating(activation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Add neighbouring products in 16 bits first, as VPMADDUBSW (AVX2, AVX-512 without VNNI) does."""
    total = np.zeros((len(activation), weight.shape[1]), dtype=np.int32)
    if activation.shape[1] % 2:
        activation, weight = np.pad(activation, ((0, 0), (0, 1))), np.pad(weight, ((0, 1), (0, 0)))
    for first in range(0, activation.shape[1], 2):
        pair = activation[:, first : first + 2].astype(np.int32) @ weight[first : first + 2].astype(np.int32)
        total += np.clip(pair, SMALLEST, LARGEST)
    return total


def rows_of_convolution(values: np.ndarray, kernel: int, pads: tuple[int, int], stride: int, zero: int) -> np.ndarray:
    """Return the terms of each output place of a convolution, shape (M, channels * kernel).

    Parameters
    ----------
    values : ndarray, shape (N, channels, L), uint8
    """
    padded = np.pad(values, ((0, 0), (0, 0), pads), constant_values=zero)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=2)[:, :, ::stride]
    return windows.transpose(0, 2, 1, 3).reshape(-1, values.shape[1] * kernel)
