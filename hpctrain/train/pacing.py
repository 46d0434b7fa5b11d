"""Slow a run down and let it recover: pauses between micro-batches, and pauses of all ranks together between steps.

Nothing here changes batches, random numbers, the learning rate or the order of samples.
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
"""Longest pause after one micro-batch [s]; other ranks may be waiting for this one in a collective."""
_SLICE_S = 0.25
"""Length of a slice of a pause [s]; between two slices the rank checks for a stop request and new readings."""


@dataclass(frozen=True)
class PaceFlags:
    """Numbers that are summed over ranks in each step.

    Parameters
    ----------
    hot : float
        Number of ranks that ask for a pause.
    critical : float
        Number of ranks that ask to save and exit.
    """

    hot: float = 0.0
    critical: float = 0.0


class FullSpeed:
    """The pace of a step without sensors, as in a memory measurement or a test."""

    def flags(self) -> PaceFlags:
        """Ask for no pause and no stop."""
        return PaceFlags()

    def rest(self) -> None:
        """Continue at once."""


class Pacer:
    """Keep the run at the pace its sensors allow.

    Parameters
    ----------
    world : World
    device : torch.device
    stop, heartbeat, watchdog
        Objects of this rank.
    sampler : Sampler
    sleep : callable
        Waits for the given number of seconds [s]; tests pass a faster one.
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
        """Return the requests of this rank; a critical level stays set, so that even a short one is not missed."""
        level = self._sampler.level
        if level is Level.CRITICAL:
            self._is_critical = True
            self._stop.cause = self._stop.cause or f"critical: {self._sampler.cause}"
        return PaceFlags(float(level >= Level.HOT), float(self._is_critical))

    def rest(self) -> None:
        """Pause as long as the duty cycle requires after the work since the last call; do nothing at full speed."""
        if self._sampler.level is Level.OK:
            self._worked_since_s = None
            self._has_released = self._has_released and self._sampler.memory_is_short
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the GPU produces the heat, and the host runs ahead of it
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
        """Pause all ranks together until none of them is hot or one of them is asked to stop.

        Returns
        -------
        stop, interrupted, critical : bool
            Whether any rank was asked to stop, was interrupted, or reached its critical limit meanwhile.
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
        """Free torch's cache once, on a GPU that shares memory with the CPU, when that memory runs short."""
        if self._sampler.memory_is_short and not self._has_released and self._device.type == "cuda":
            torch.cuda.empty_cache()
            self._has_released = True

    def _is_asked_to_stop(self) -> bool:
        return any(self._stop.flags())
