"""Slow down and recover: rests between micro-batches, and waits at a boundary that all ranks enter and leave together.

Nothing here touches batches, random numbers, learning rate or the order of samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.monitor.pace import Level
from hpctrain.monitor.sampler import Sampler

LONGEST_REST_S = 10.0
"""Of one micro-batch: other ranks may wait for this one in a collective."""
_SLICE_S = 0.25
"""A rest is cut into pieces of this length, to hear of a stop and of the sensors."""


@dataclass(frozen=True)
class PaceFlags:
    """What the ranks tell each other with each update: numbers that are summed.

    Parameters
    ----------
    hot : float
        Ranks that want to wait.
    critical : float
        Ranks that want to save and leave.
    """

    hot: float = 0.0
    critical: float = 0.0


class FullSpeed:
    """The pace of an update that no sensor watches: a measurement, a test."""

    def flags(self) -> PaceFlags:
        """Ask for nothing."""
        return PaceFlags()

    def rest(self) -> None:
        """Go on at once."""


class Pacer:
    """Hold the run to the pace its sensors allow.

    Parameters
    ----------
    world : World
    device : torch.device
    stop, heartbeat, watchdog
        Of this rank.
    sampler : Sampler
    sleep : callable
        Waits for so many seconds; another one in a time-lapse.
    """

    def __init__(
        self,
        world: World,
        device: torch.device,
        stop: StopRequest,
        heartbeat: Heartbeat,
        watchdog: Watchdog,
        sampler: Sampler,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._world, self._device = world, device
        self._stop, self._heartbeat, self._watchdog = stop, heartbeat, watchdog
        self._sampler, self._sleep = sampler, sleep
        self._worked_since_s: float | None = None
        self._is_critical = False
        self._has_released = False

    def flags(self) -> PaceFlags:
        """Return what this rank wants; a critical level sticks, so that it is heard however short it was."""
        level = self._sampler.level
        if level is Level.CRITICAL:
            self._is_critical = True
            self._stop.cause = self._stop.cause or f"critical: {self._sampler.cause}"
        return PaceFlags(float(level >= Level.HOT), float(self._is_critical))

    def rest(self) -> None:
        """Rest as long as the duty asks for after the work since the last call; at full speed this costs nothing."""
        if self._sampler.level is Level.OK:
            self._worked_since_s = None
            self._has_released = self._has_released and self._sampler.memory_is_short
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the host is ahead of the GPU, whose work is what heats
        now_s = time.perf_counter()
        if self._worked_since_s is not None:
            duty = self._sampler.duty
            left_s = min(LONGEST_REST_S, (now_s - self._worked_since_s) * (1.0 / duty - 1.0))
            self._sampler.rested_s += left_s
            while left_s > 0 and not self._is_asked_to_stop():
                self._sleep(min(left_s, _SLICE_S))
                left_s -= _SLICE_S
                self._watchdog.progress()
        self._worked_since_s = time.perf_counter()

    def wait_until_cool(self) -> tuple[bool, bool, bool]:
        """Wait, all ranks together, until none of them is hot or any of them is asked to stop.

        Returns
        -------
        stop, interrupted, critical : bool
            What some rank was asked for meanwhile.
        """
        state, self._heartbeat.state = self._heartbeat.state, "cooling"
        began_s = time.perf_counter()
        while True:
            flags = self.flags()
            mine = torch.tensor([*self._stop.flags(), flags.critical, flags.hot], dtype=torch.float64)
            stop, interrupted, critical, hot = (value > 0 for value in sum_over_ranks(self._world, mine).tolist())
            self._watchdog.progress()
            if stop or not hot:
                break
            self._sleep(_SLICE_S)
        self._sampler.rested_s += time.perf_counter() - began_s
        self._heartbeat.state = state
        self._worked_since_s = None
        return stop, interrupted, critical

    def release_memory(self) -> None:
        """Give back what torch keeps for later, once, where CPU and GPU share a memory that is short."""
        if self._sampler.memory_is_short and not self._has_released and self._device.type == "cuda":
            torch.cuda.empty_cache()
            self._has_released = True

    def _is_asked_to_stop(self) -> bool:
        return any(self._stop.flags())
