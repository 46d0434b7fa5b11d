"""Latency on this machine: percentiles after a warm-up, of single spectra and of batches."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain.edge.prepare import Preparation
from hpctrain.edge.see import Network
from hpctrain.kinds.spectra.hdf5 import SpectraSet

WARM_UP = 5
"""Number of calls before the timed ones; the first calls allocate memory and choose kernels."""

FEWEST_CALLS = 30
MOST_CALLS = 200
ENOUGH_S = 4.0
"""After so many seconds, no more than `FEWEST_CALLS` calls are made."""


@dataclass(frozen=True)
class Latency:
    """Latency of calls with one batch size.

    Parameters
    ----------
    batch : int
        Spectra in each call.
    calls : int
        Number of timed calls.
    p50_ms, p95_ms, p99_ms : float
        Percentiles from spectra in memory to rows of the catalogue.
    network_p50_ms, network_p95_ms, network_p99_ms : float
        Percentiles of the network alone.
    joules_per_spectrum : float or None
        Energy of the device per spectrum [J], if a sensor measures it.
    """

    batch: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    network_p50_ms: float
    network_p95_ms: float
    network_p99_ms: float
    joules_per_spectrum: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``; numbers that were not measured are absent."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        energy = "" if self.joules_per_spectrum is None else f"; {self.joules_per_spectrum:.3g} J a spectrum"
        return (
            f"batch {self.batch}: p50 {self.p50_ms:.2f}, p95 {self.p95_ms:.2f}, p99 {self.p99_ms:.2f} ms, the network "
            f"alone {self.network_p50_ms:.2f}, {self.network_p95_ms:.2f}, {self.network_p99_ms:.2f} ms "
            f"({self.calls} calls){energy}"
        )


def measure_latency(
    network: Network,
    preparation: Preparation,
    spectra: SpectraSet,
    rows: np.ndarray,
    batch: int,
    energy_j: Callable[[], float | None] | None = None,
    most_calls: int = MOST_CALLS,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time preparation, network and catalogue with real spectra.

    Parameters
    ----------
    network : Network
    preparation : Preparation
    spectra : SpectraSet
    rows : ndarray of int64
        Rows of the spectra to use; they are repeated where there are fewer than `batch`.
    batch : int
        Spectra in each call.
    energy_j : callable, optional
        Returns the energy that the device has used so far [J], or None; is called before and after the timed calls.
    most_calls : int
        Largest number of timed calls, at least `FEWEST_CALLS`.
    clock : callable
        Returns seconds.
    """
    batches = _batches(spectra, np.resize(rows, max(batch, min(len(rows), 8 * batch))), batch)
    for index in range(WARM_UP):
        _timed(network, preparation, batches[index % len(batches)], clock)
    whole, alone = [], []
    before_j = energy_j() if energy_j is not None else None
    started_s = clock()
    while len(whole) < FEWEST_CALLS or (len(whole) < most_calls and clock() - started_s < ENOUGH_S):
        seconds, network_s = _timed(network, preparation, batches[len(whole) % len(batches)], clock)
        whole.append(seconds * 1e3)
        alone.append(network_s * 1e3)
    after_j = energy_j() if energy_j is not None else None
    joules = None if before_j is None or after_j is None else (after_j - before_j) / (len(whole) * batch)
    percentiles = [float(value) for times in (whole, alone) for value in np.percentile(times, (50, 95, 99))]
    return Latency(batch, len(whole), *percentiles, joules_per_spectrum=joules)


def _batches(spectra: SpectraSet, rows: np.ndarray, batch: int) -> list[tuple[np.ndarray, ...]]:
    read = [spectra.read(rows[start : start + batch]) for start in range(0, len(rows) - batch + 1, batch)]
    return [
        (item.flux.numpy().copy(), item.ivar.numpy().copy(), item.wavelength_aa.numpy(), item.redshift.numpy())
        for item in read
    ]


def _timed(
    network: Network, preparation: Preparation, batch: tuple[np.ndarray, ...], clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the total time and the time in the network [s]."""
    started_s = clock()
    prepared = preparation(*batch)
    ready_s = clock()
    outputs = network(prepared.feeds)
    computed_s = clock()
    preparation.catalogue(prepared, outputs)
    return clock() - started_s, computed_s - ready_s


def machine() -> dict[str, Any]:
    """Describe the machine that the latency was measured on."""
    return {"machine": platform.machine(), "host": platform.node(), "cores": len(os.sched_getaffinity(0))}
