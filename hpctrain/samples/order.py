"""The order of the spectra, computed from the position in the run, so that a resume needs no saved order.

A run is one endless sequence of positions 0, 1, 2, ...; epoch ``e`` has the positions ``e N`` to ``(e + 1) N - 1``.
Within an epoch the order is a permutation of the N spectra keyed by (seed, epoch). It is computed only for the needed
positions, by a Feistel network on the smallest power of two that holds N, applied again while the result is N or more.
So a rank can read any part of it, a resume at position 10^9 costs as much as one at 0, and no list of N numbers exists.
"""

from __future__ import annotations

import numpy as np

from hpctrain.samples.hashing import key_of, mix64

_NUM_ROUNDS = 10
"""Number of half-rounds. Four full rounds make a Feistel network pseudo-random; small N have tiny halves and need one
more."""


def sample_order(seed: int, num_samples: int, positions: np.ndarray) -> np.ndarray:
    """Return the sample at each position of the run.

    Parameters
    ----------
    seed : int
        Seed of the run, ``train.seed``.
    num_samples : int
        Number of samples of an epoch, N >= 1.
    positions : ndarray, shape (M,), int64
        Positions >= 0, counted from the start of the run; the epoch is ``position // num_samples``.

    Returns
    -------
    ndarray, shape (M,), int64
        Numbers in [0, N). Each epoch contains each number exactly once.

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
    return _permute(within, key, num_samples)


def _permute(values: np.ndarray, key: np.ndarray, count: int) -> np.ndarray:
    """Return the image of each value under a keyed permutation of [0, count)."""
    num_bits = max(1, (count - 1).bit_length())
    image = _feistel(values.astype(np.uint64), key, num_bits)
    # The network permutes [0, 2^bits), less than twice `count`. A result of `count` or more is permuted again until it
    # is below `count`. That always happens, because it follows a cycle of a permutation, and no two values can
    # coincide.
    outside = np.flatnonzero(image >= count)
    while outside.size:
        image[outside] = _feistel(image[outside], key[outside], num_bits)
        outside = outside[image[outside] >= count]
    return image.astype(np.int64)


def _feistel(value: np.ndarray, key: np.ndarray, num_bits: int) -> np.ndarray:
    """Permute [0, 2^num_bits); the halves may differ by one bit, because each round changes one half by the other."""
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


class WindowedOrder:
    """An order in two levels, for files whose rows can only be decoded in blocks.

    An epoch permutes the blocks, consecutive blocks form a window, and within a window all samples are permuted. Each
    block is decoded once per epoch, and never more than two windows are in memory.

    Parameters
    ----------
    seed : int
        Seed of the run, ``train.seed``.
    num_samples : int
        Number of samples of an epoch, N.
    blocks : ndarray, shape (B,), int64
        First sample of each block, increasing; the first one is 0.
    window : int
        Approximate number of samples of a window: a window ends with the block that fills it.

    Notes
    -----
    Like :func:`sample_order`, this is a pure function of the position. It computes B numbers per epoch, when a position
    of that epoch is first needed.
    """

    def __init__(self, seed: int, num_samples: int, blocks: np.ndarray, window: int) -> None:
        self._seed, self._num_samples = int(seed), num_samples
        self._starts = np.asarray(blocks, dtype=np.int64)
        self._lengths = np.diff(np.append(self._starts, num_samples))
        if len(self._starts) == 0 or self._starts[0] != 0 or (self._lengths < 1).any():
            raise ValueError("blocks begin at 0, increase, and hold a sample each")
        num_windows = max(1, round(num_samples / window))
        # The numbers of blocks per window are as equal as possible: a small window at the end would be shuffled badly.
        self._edges = np.unique(np.arange(num_windows + 1) * len(self._starts) // num_windows)
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the sample at each position of the run, as :func:`sample_order` does."""
        epoch, within = np.divmod(np.asarray(positions, dtype=np.int64), self._num_samples)
        samples = np.empty_like(within)
        for number in np.unique(epoch).tolist():
            here = epoch == number
            samples[here] = self._of_epoch(number, within[here])
        return samples

    def _of_epoch(self, epoch: int, within: np.ndarray) -> np.ndarray:
        blocks, begins = self._plan(epoch)
        window_begins = begins[self._edges]
        samples = np.empty_like(within)
        window_of = np.searchsorted(window_begins, within, side="right") - 1
        for window in np.unique(window_of).tolist():
            here = window_of == window
            begin, end = window_begins[window : window + 2]
            inside = begin + self._permuted(f"window {epoch} {window}", int(end - begin), within[here] - begin)
            block = np.searchsorted(begins, inside, side="right") - 1
            samples[here] = self._starts[blocks[block]] + inside - begins[block]
        return samples

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks of an epoch in their order, and the position at which each begins, with the end of the
        epoch."""
        plan = self._epochs.get(epoch)
        if plan is None:
            blocks = self._permuted(f"blocks {epoch}", len(self._starts), np.arange(len(self._starts)))
            plan = blocks, np.concatenate([[0], np.cumsum(self._lengths[blocks])])
            self._epochs = {
                **dict(list(self._epochs.items())[-1:]),
                epoch: plan,
            }  # a batch has samples of two epochs at most
        return plan

    def _permuted(self, what: str, count: int, values: np.ndarray) -> np.ndarray:
        key = mix64(np.full(len(values), key_of(f"{what} {self._seed}")))
        return _permute(values, key, count)


class BucketedOrder:
    """An order in which the samples of a batch have similar lengths, so that little of a batch is padding.

    An epoch is shuffled as :func:`sample_order` does. Consecutive batches of it form a window, whose samples are sorted
    by length and cut into batches again, and these batches are shuffled within their window.

    Parameters
    ----------
    seed : int
        Seed of the run, ``train.seed``.
    lengths : ndarray, shape (N,)
        Length of each sample.
    batch_size : int
        Number of samples of a micro-batch; position 0 of the run begins one.
    window : int
        Approximate number of micro-batches of a window.

    Notes
    -----
    Like :func:`sample_order`, this is a pure function of the position, and each epoch has each sample once. One
    micro-batch may hold the end of an epoch and the beginning of the next, whose lengths differ.
    """

    def __init__(self, seed: int, lengths: np.ndarray, batch_size: int, window: int) -> None:
        self._seed, self._lengths, self._batch_size, self._window = int(seed), lengths, batch_size, window
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self._edges_of: dict[int, np.ndarray] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the sample at each position of the run, as :func:`sample_order` does."""
        epoch, within = np.divmod(np.asarray(positions, dtype=np.int64), len(self._lengths))
        samples = np.empty_like(within)
        for number in np.unique(epoch).tolist():
            edges = self._edges(number)
            window_of = np.searchsorted(edges, within, side="right") - 1
            for window in np.unique(window_of[epoch == number]).tolist():
                here = (epoch == number) & (window_of == window)
                samples[here] = self._samples_of(number, window, edges)[within[here] - edges[window]]
        return samples

    def _edges(self, epoch: int) -> np.ndarray:
        """Return where the windows of an epoch begin, and the end of the epoch; all but the ends begin a batch."""
        found = self._edges_of.get(epoch)
        if found is not None:
            return found
        num, size = len(self._lengths), self._batch_size
        first = min(-epoch * num % size, num)
        num_batches = (num - first) // size
        num_windows = max(1, round(num_batches / self._window))
        edges = first + np.arange(num_windows) * num_batches // num_windows * size
        found = np.unique(np.concatenate([[0], edges, [num]]))
        self._edges_of = {**dict(list(self._edges_of.items())[-1:]), epoch: found}
        return found

    def _samples_of(self, epoch: int, window: int, edges: np.ndarray) -> np.ndarray:
        """Return the samples of a window in their order."""
        found = self._known.get((epoch, window))
        if found is None:
            begin = epoch * len(self._lengths)
            found = sample_order(self._seed, len(self._lengths), begin + np.arange(edges[window], edges[window + 1]))
            found = found[np.argsort(self._lengths[found], kind="stable")]
            # A part of a batch can only be at the end of the window, which is then the end of the epoch.
            rest = len(found) % self._batch_size
            batches = found[rest:].reshape(-1, self._batch_size)
            key = mix64(np.full(len(batches), key_of(f"buckets {epoch} {window} {self._seed}")))
            batches = batches[_permute(np.arange(len(batches)), key, max(1, len(batches)))]
            found = np.concatenate([batches.reshape(-1), found[:rest]])
            # A batch has samples of two windows at most.
            self._known = {**dict(list(self._known.items())[-1:]), (epoch, window): found}
        return found
