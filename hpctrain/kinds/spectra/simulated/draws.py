"""Random numbers of objects and exposures: each has its own generator, keyed by seed, purpose and number.

So spectrum number 7 is the same spectrum whether ten or ten million are simulated, and for any block size.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_NUM_DRAWS = 80
"""Largest number of uniform and of normal numbers that a class of objects may use per object."""


class Purpose(IntEnum):
    """Purposes of random numbers; the numbers of one purpose never depend on how many another used."""

    OBJECT = 0
    FOREST = 1
    EXPOSURE = 2


def generator(seed: int, purpose: Purpose, number: int) -> np.random.Generator:
    """Return the generator of one object or one exposure."""
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, number * len(Purpose) + purpose]))


class Draws:
    """Random properties of several objects, a column at a time.

    Parameters
    ----------
    seed : int
        Of the simulation.
    objects : ndarray, shape (n,), int64
        Numbers of the objects.

    Notes
    -----
    Each call takes the next column, so the same calls in the same order give the same object.
    """

    def __init__(self, seed: int, objects: np.ndarray) -> None:
        self._uniform = np.empty((len(objects), _NUM_DRAWS))
        self._normal = np.empty((len(objects), _NUM_DRAWS))
        for index, number in enumerate(objects.tolist()):
            random = generator(seed, Purpose.OBJECT, number)
            random.random(out=self._uniform[index])
            random.standard_normal(out=self._normal[index])
        self._next = [0, 0]

    def of(self, which: np.ndarray) -> Draws:
        """Return the draws of some of the objects, continuing at the same column."""
        part = object.__new__(Draws)
        part._uniform, part._normal = self._uniform[which], self._normal[which]
        part._next = list(self._next)
        return part

    def __len__(self) -> int:
        return len(self._uniform)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return one number per object, uniform in [low, high)."""
        column = self._uniform[:, self._next[0]]
        self._next[0] += 1
        return low + (high - low) * column

    def normal(self, mean: float = 0.0, sigma: float = 1.0) -> np.ndarray:
        """Return one number per object with a normal distribution."""
        column = self._normal[:, self._next[1]]
        self._next[1] += 1
        return mean + sigma * column

    def around(self, median: float, dex: float) -> np.ndarray:
        """Return one positive number per object, log-normal with a scatter in powers of ten."""
        return median * 10.0 ** self.normal(0.0, dex)
