"""Call a slow exporter from a thread of its own, through a queue of bounded length."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hpctrain.metrics.exporters.exporter import Exporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpctrain.metrics.histogram import Histogram

log = logging.getLogger(__name__)


class InBackground(Exporter):
    """Pass calls to another exporter in a thread, so that a slow disk never delays the run.

    A call that finds the queue full is dropped. The number of dropped calls is logged once, at the end. The next call
    after an error of the exporter raises this error, so that the metrics writer drops it.

    Parameters
    ----------
    inner : Exporter
        Only the thread calls it.
    capacity : int
        Largest number of calls that wait.
    close_s : float
        Longest time that :meth:`close` waits for the calls that are left [s].
    """

    def __init__(self, inner: Exporter, capacity: int = 64, close_s: float = 5.0) -> None:
        self._inner, self._close_s = inner, close_s
        self.takes_figures, self.takes_histograms = inner.takes_figures, inner.takes_histograms
        self._waiting: queue.Queue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.Queue(capacity)
        self._error: Exception | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name=type(inner).__name__, daemon=True)
        self._thread.start()
        self.num_dropped = 0

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take one record."""
        self._put(self._inner, record)

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Take a figure."""
        self._put(self._inner.figure, step, name, figure)

    def histogram(self, step: int, named: Mapping[str, Histogram]) -> None:
        """Take histograms."""
        self._put(self._inner.histogram, step, named)

    def close(self) -> None:
        """Wait for the calls that are left, for a bounded time, then close the exporter."""
        self._ends.set()
        self._thread.join(self._close_s)
        left = self._waiting.qsize()
        if self._thread.is_alive() or self.num_dropped or left:
            name = type(self._inner).__name__
            log.warning("%s was too slow: %d calls dropped", name, self.num_dropped + left)
        if self._error is not None:
            raise self._error

    def _put(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._waiting.put_nowait((call, arguments))
        except queue.Full:
            self.num_dropped += 1

    def _work(self) -> None:
        try:
            while True:
                try:
                    call, arguments = self._waiting.get(timeout=0.1)
                except queue.Empty:
                    if self._ends.is_set():
                        break
                    continue
                call(*arguments)
            self._inner.close()
        except Exception as error:
            self._error = error
