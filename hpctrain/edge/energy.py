"""The energy that a machine uses while something is timed, by the sensors it has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.sensors import Sensors

_INTERVAL_S = 0.1
"""Time between two samples of power [s]; the sensors of a board average over about the same time."""

_LONGEST_GAP_S = 2.0


@contextmanager
def measured_energy(root: Path | None = None, interval_s: float = _INTERVAL_S) -> Iterator[Callable[[], float | None]]:
    """Measure while the block runs.

    Parameters
    ----------
    root : Path, optional
        Where ``sys`` and ``proc`` are; None means those of this machine.
    interval_s : float
        Time between two samples [s].

    Yields
    ------
    callable
        Returns the energy since the block began [J]: of the whole board where it has rails (a Jetson), else of the CPU
        packages; None where nothing measures it. The energy of other work on the machine is included.
    """
    sensors, meter, lock, ended = Sensors(root), EnergyMeter(_LONGEST_GAP_S), threading.Lock(), threading.Event()

    def sample() -> float | None:
        with lock:
            sensors.read(time.monotonic(), meter)
            return meter.total_j

    def go_on() -> None:
        while not ended.wait(interval_s):
            sample()

    sample()
    thread = threading.Thread(target=go_on, name="measure-energy", daemon=True)
    thread.start()
    try:
        yield sample
    finally:
        ended.set()
        thread.join()
