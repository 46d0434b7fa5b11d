"""How long each rank waits for its peers: from the end of its own gradient to the gradient of all ranks.

The rank that arrives last waits only for the exchange itself, and every other rank also for the last one. So the
slowest rank is the one that waits least. Each rank measures by itself; at the steps that are recorded, one more small
sum brings the numbers of all ranks together while the backward pass computes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Variable

from hpctrain.distributed.reduce import start_sum
from hpctrain.distributed.world import World
from hpctrain.train.trace_labels import Label, no_label

Mark = Any
"""A moment: seconds of this process on a CPU, an event in the stream of a GPU."""


@dataclass
class Waits:
    """What all ranks have measured since the last record, on its way to the host.

    Parameters
    ----------
    values : Tensor, shape (2, R), float64
        For each of the R ranks: the time from its own gradient to that of all, and the time waiting for batches [s].
    work : Work
        The sum that is under way.
    cycle_s : float
        Time of the same steps [s].
    """

    values: torch.Tensor
    work: dist.Work
    cycle_s: float

    def to_host(self) -> None:
        """Begin to copy the values to the host once all ranks have sent theirs."""
        self.work.wait()
        if self.values.is_cuda:
            host = torch.empty(self.values.shape, dtype=self.values.dtype, pin_memory=True)
            self.values = host.copy_(self.values, non_blocking=True)

    def fields(self) -> dict[str, float]:
        """Return the entries of a training record; the values must have arrived.

        Returns
        -------
        dict
            ``exchange_share``: share of the time that even the slowest rank waits, for the exchange itself.
            ``peer_wait_share``: share of the time that the other ranks wait for the slowest, their mean.
            ``slowest_rank``: the rank that waits least, and ``slowest_data_wait_share`` what it waits for batches.
            Empty if no step was measured.
        """
        if self.cycle_s <= 0:
            return {}
        waited, data = self.values.tolist()
        slowest = min(range(len(waited)), key=waited.__getitem__)
        others = (sum(waited) - waited[slowest]) / (len(waited) - 1)
        shares = (waited[slowest], others - waited[slowest], data[slowest])
        exchange, peers, of_data = (min(1.0, max(0.0, seconds / self.cycle_s)) for seconds in shares)
        return {
            "exchange_share": exchange,
            "peer_wait_share": peers,
            "slowest_rank": slowest,
            "slowest_data_wait_share": of_data,
        }


class PeerClock:
    """Measures one rank; it never waits for the device or for another rank.

    Parameters
    ----------
    world : World
        Of two ranks or more.
    device : torch.device

    Attributes
    ----------
    data_waited_s : callable
        Returns how long this rank has waited for its batches so far [s].
    label : callable
        Names the moment at which the own gradient is complete, in a trace.
    """

    def __init__(self, world: World, device: torch.device) -> None:
        self._world, self._device = world, device
        self.data_waited_s: Callable[[], float] = lambda: 0.0
        self.label: Label = no_label
        self._own: Mark = None
        self._last: Mark = None
        self._last_data_s = 0.0
        self._measured: deque[tuple[Mark, Mark, Mark, float]] = deque()
        self._sums = [0.0, 0.0, 0.0]

    def watch(self, loss: torch.Tensor) -> None:
        """Note the moment at which the backward pass of `loss` has computed the last gradient of this rank.

        DistributedDataParallel waits for the other ranks in a callback at the end of the backward pass. Callbacks are
        called in order, and this one enters the queue at the beginning.
        """
        loss.register_hook(self._begin)

    def _begin(self, gradient: torch.Tensor) -> None:
        Variable._execution_engine.queue_callback(self._complete)

    def _complete(self) -> None:
        with self.label("gradient complete"):
            self._own = self._mark()

    def arrived(self) -> None:
        """Note the moment at which this rank has the sums of all ranks."""
        now, data_s = self._mark(), self.data_waited_s()
        if self._last is not None and self._own is not None:
            self._measured.append((self._last, self._own, now, data_s - self._last_data_s))
        self._last, self._own, self._last_data_s = now, None, data_s
        while self._measured and self._is_over(self._measured[0][2]):
            self._add(*self._measured.popleft())

    def leave_out_next(self) -> None:
        """Do not count the next step: one rank alone has work between the steps, such as a checkpoint."""
        self._last = None

    def start_sum(self) -> Waits:
        """Begin to bring together what all ranks have measured since the last time; all ranks must call this together.

        On a GPU the newest steps may still be running, so their numbers are for the next time.
        """
        waited_s, data_s, cycle_s = self._sums
        self._sums = [0.0, 0.0, 0.0]
        values = torch.zeros((2, self._world.world_size), dtype=torch.float64, device=self._device)
        values[0, self._world.rank].fill_(waited_s)  # a GPU gets the number with the command: nothing is copied
        values[1, self._world.rank].fill_(data_s)
        return Waits(values, start_sum(self._world, values), cycle_s)

    def _add(self, last: Mark, own: Mark, now: Mark, data_s: float) -> None:
        for index, seconds in enumerate((self._between(own, now), data_s, self._between(last, now))):
            self._sums[index] += seconds

    def _mark(self) -> Mark:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    @staticmethod
    def _is_over(mark: Mark) -> bool:
        return isinstance(mark, float) or mark.query()

    @staticmethod
    def _between(first: Mark, second: Mark) -> float:
        """Return the time between two moments [s]."""
        return second - first if isinstance(first, float) else first.elapsed_time(second) / 1000.0
