"""Which spectrum stands at which position of the run: a function, so nothing has to be saved to resume.

A run is one endless sequence of positions 0, 1, 2, ...; epoch ``e`` is positions ``e N`` to ``(e + 1) N - 1``, and
within an epoch the order is a permutation of the N spectra keyed by (seed, epoch). The permutation is computed for the
asked positions only (a Feistel network on the smallest power of two that holds N, walking on while it lands outside),
so a rank may ask for any part of it, a resume at position 10^9 costs what position 0 costs, and no list of N numbers
exists.
"""

from __future__ import annotations

import numpy as np

from hpctrain.spectra.hashing import key_of, mix64

_NUM_ROUNDS = 10
"""Half-rounds. Four full ones make a Feistel network pseudo-random; one more because small N have tiny halves."""


def sample_order(seed: int, num_samples: int, positions: np.ndarray) -> np.ndarray:
    """Return the sample at each position of the run.

    Parameters
    ----------
    seed : int
        Of the run, ``train.seed``.
    num_samples : int
        Number of samples of an epoch, N >= 1.
    positions : ndarray, shape (M,), int64
        Positions >= 0, counted from the start of the run; the epoch is ``position // num_samples``.

    Returns
    -------
    ndarray, shape (M,), int64
        Numbers in [0, N). Each epoch holds each exactly once.

    References
    ----------
    .. [1] Black & Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking).
    """
    if num_samples < 1:
        raise ValueError(f"an epoch needs at least one sample, not {num_samples}")
    positions = np.asarray(positions, dtype=np.int64)
    if positions.size and positions.min() < 0:
        raise ValueError(f"positions start at 0, found {positions.min()}")
    epoch, within = np.divmod(positions, num_samples)
    key = mix64(mix64(epoch.astype(np.uint64) ^ key_of("order")) ^ key_of(str(int(seed))))
    num_bits = max(1, (num_samples - 1).bit_length())
    sample = _feistel(within.astype(np.uint64), key, num_bits)
    # The network permutes [0, 2^bits), less than twice N. A value beyond N is sent through again until it comes back
    # inside: as it follows the cycle of a permutation it must, and no two positions can meet.
    outside = np.flatnonzero(sample >= num_samples)
    while outside.size:
        sample[outside] = _feistel(sample[outside], key[outside], num_bits)
        outside = outside[sample[outside] >= num_samples]
    return sample.astype(np.int64)


def _feistel(value: np.ndarray, key: np.ndarray, num_bits: int) -> np.ndarray:
    """Permute [0, 2^num_bits); the halves may differ by one bit, as each round changes one half by the other."""
    low_bits = np.uint64(num_bits // 2)
    low_mask = np.uint64((1 << (num_bits // 2)) - 1)
    high_mask = np.uint64((1 << (num_bits - num_bits // 2)) - 1)
    high, low = value >> low_bits, value & low_mask
    for number in range(0, _NUM_ROUNDS, 2):
        high = high ^ (_round(low, key, number) & high_mask)
        low = low ^ (_round(high, key, number + 1) & low_mask)
    return (high << low_bits) | low


def _round(half: np.ndarray, key: np.ndarray, number: int) -> np.ndarray:
    return mix64(half ^ mix64(key + np.uint64(number)))
