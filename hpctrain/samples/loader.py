"""Prefetch batches: threads read them while the network works, and deliver them in the requested order.

These are threads and not processes: numpy copies the bytes directly into the batch with the interpreter lock released,
while a worker process would have to copy each batch once more (measured: twenty times slower).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Batch, Samples


def padded_requests(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut rows into batches of one size, and fill up the last one with padding, as torch.compile needs.

    Parameters
    ----------
    rows : ndarray, shape (M,), int64
    batch_size : int

    Yields
    ------
    ndarray, shape (batch_size,), int64
    """
    for start in range(0, len(rows), batch_size):
        request = np.full(batch_size, PADDING_ROW, dtype=np.int64)
        piece = rows[start : start + batch_size]
        request[: len(piece)] = piece
        yield request


def read_ahead(
    samples: Samples, requests: Iterable[np.ndarray], threads: int, depth: int, pin: bool = False
) -> Iterator[Batch]:
    """Yield one batch for each request, in order; the same batches for any number of threads.

    Parameters
    ----------
    samples : Samples
        Set to read from.
    requests : iterable of ndarray, shape (N,), int64
        Rows of each batch; -1 is a padding row. They are drawn in the caller's thread, at most `depth` ahead, plus
        :meth:`Samples.batches_ahead` if preparing batches helps.
    threads : int
        Number of threads that read; 0 reads when the batch is requested.
    depth : int
        Largest number of batches that are ready or being read while the caller works on one.
    pin : bool
        Read into page-locked memory, from which copies to a GPU overlap with computing.

    Yields
    ------
    Batch

    Raises
    ------
    DataError
        A row cannot be read; the error is raised in place of its batch. Closing the generator, or an error in the loop
        that consumes it, stops the threads.
    """
    if threads == 0:
        for rows in requests:
            yield samples.read(rows, pin=pin)
        return
    waiting: deque[Future[Batch]] = deque()
    requests = iter(requests)
    with ThreadPoolExecutor(threads, thread_name_prefix="read-samples") as executor:
        try:
            for rows in itertools.islice(requests, 1):
                waiting.append(executor.submit(samples.read, rows, pin=pin))
                # The first batch is read alone, because the caller waits for it; meanwhile the next requests are drawn.
                ahead = samples.batches_ahead(len(rows)) if samples.is_prepared_ahead else 0
                requests = itertools.chain(list(itertools.islice(requests, depth + ahead)), requests)
                wait(waiting)
            for rows in _prepared(samples, requests, executor, depth + threads):
                waiting.append(executor.submit(samples.read, rows, pin=pin))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _prepared(
    samples: Samples, requests: Iterable[np.ndarray], executor: ThreadPoolExecutor, in_flight: int
) -> Iterator[np.ndarray]:
    """Yield the requests, and announce each to the set long before it is read, if that helps."""
    told: deque[np.ndarray] = deque()
    untold: list[np.ndarray] = []
    for rows in requests:
        if samples.is_prepared_ahead:
            told.append(rows)
            untold.append(rows)
            if len(untold) >= samples.batches_together:
                executor.submit(samples.prepare, np.concatenate(untold))
                untold.clear()
            # Prefetch at most one shuffle window ahead.
            if len(told) > samples.batches_ahead(len(rows)) - in_flight:
                yield told.popleft()
        else:
            yield from told
            told.clear()
            untold.clear()
            yield rows
    yield from told
