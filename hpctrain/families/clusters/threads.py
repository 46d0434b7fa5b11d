"""Fits side by side, each of which sums in one thread, so that the number of cores changes no bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the libraries that this thread calls sum in one thread: BLAS and OpenMP."""
    with threadpool_limits(limits=1):
        yield


def side_by_side(fit: Callable[[int], T], seed: int, count: int, threads: int) -> list[T]:
    """Return several fits in their order.

    Parameters
    ----------
    fit : callable
        Gets the seed of a fit, which depends on nothing but `seed` and the number of the fit.
    seed : int
    count : int
    threads : int
        Number of fits at the same time.
    """

    def fit_alone(source: int) -> T:
        with one_thread():  # OpenMP keeps its number of threads for each thread that calls it
            return fit(source)

    sources = np.random.SeedSequence(seed).generate_state(count, np.uint32).tolist()
    with ThreadPoolExecutor(min(count, max(1, threads))) as pool:
        return list(pool.map(fit_alone, sources))
