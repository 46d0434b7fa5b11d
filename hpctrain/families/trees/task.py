"""What the trees of one label are grown from in a round. N objects, F inputs, K numbers, n judged objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hpctrain.families.trees.histogram import Binned

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """One label in one round.

    Parameters
    ----------
    inputs, targets, weight : ndarray, shape (N, F), (N, K) and (N,)
        Training objects; weight 0 where there is no label or no input.
    seed : int
        Seed of the label in this round.
    judged : ndarray, shape (n,), int64
        Training objects from which the loss of the round is computed.
    binned : Binned, optional
        The inputs as bytes, where splits lie between intervals.
    threads : int
        Cores for a piece of work; they change no bit.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    seed: int
    judged: np.ndarray
    binned: Binned | None = None
    threads: int = 1


def named(start: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return arrays with a first part before their names."""
    return {f"{start}.{name}": array for name, array in arrays.items()}


def part_of(arrays: Mapping[str, np.ndarray], start: str) -> Arrays:
    """Return the arrays whose names begin with this part, without it."""
    start += "."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def merged(parts: Iterable[Arrays]) -> Arrays:
    """Return the arrays of several dictionaries in one."""
    return {name: array for part in parts for name, array in part.items()}
