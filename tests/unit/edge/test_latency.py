"""Latency is that of the calls after the warm-up; energy is recorded if a sensor measures it."""

from __future__ import annotations

import numpy as np
import pytest
from machines import Machine
from processes import wait_until

from hpctrain.edge.energy import measured_energy
from hpctrain.edge.latency import WARM_UP, measure_latency


class Clock:
    """Seconds that pass when a network computes, and a millisecond whenever somebody looks."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        self.now_s += 0.001
        return self.now_s


class Slow:
    """Answers like a network, after a while by a clock; the first calls take longer."""

    provider = "a stand-in for the runtime"

    def __init__(self, network, seconds, clock):
        self._outputs, self._seconds, self._clock, self.calls = network.outputs, seconds, clock, 0
        self.batches = set()

    def __call__(self, feeds):
        self.calls += 1
        self.batches.add(len(feeds["flux"]))
        self._clock.now_s += self._seconds * (20 if self.calls <= WARM_UP else 1)
        return {port.name: np.zeros(port.sized(len(feeds["flux"])), dtype="f4") for port in self._outputs}


@pytest.mark.parametrize("batch", [1, 5])
def test_the_first_calls_do_not_count_and_the_whole_takes_longer_than_the_network(network, spectra, batch):
    clock = Clock()
    slow = Slow(network, 0.004, clock)
    found = measure_latency(slow, network.preparation, spectra, np.arange(3), batch, clock=clock)
    assert slow.batches == {batch}
    assert found.calls == slow.calls - WARM_UP == 200
    # 80 ms before it was warm; each look at the clock takes 1 ms, one in the network and three in all
    assert [found.network_p50_ms, found.network_p95_ms, found.network_p99_ms] == pytest.approx([5.0] * 3)
    assert [found.p50_ms, found.p95_ms, found.p99_ms] == pytest.approx([7.0] * 3)
    assert "joules_per_spectrum" not in found.to_json()


def test_a_slow_network_is_timed_at_least_thirty_times(network, spectra):
    clock = Clock()
    found = measure_latency(Slow(network, 2.0, clock), network.preparation, spectra, np.arange(3), 1, clock=clock)
    assert found.calls == 30


def test_no_more_calls_are_timed_than_are_wanted(network, spectra):
    clock = Clock()
    slow = Slow(network, 0.004, clock)
    found = measure_latency(slow, network.preparation, spectra, np.arange(3), 1, most_calls=45, clock=clock)
    assert found.calls == slow.calls - WARM_UP == 45


def test_energy_is_shared_out_among_the_spectra(network, spectra):
    joules = iter((100.0, 190.0))
    clock = Clock()
    slow = Slow(network, 0.0001, clock)
    found = measure_latency(slow, network.preparation, spectra, np.arange(9), 3, lambda: next(joules), clock=clock)
    assert found.joules_per_spectrum == pytest.approx(90.0 / (3 * found.calls))
    assert "J a spectrum" in str(found)


def test_a_board_with_rails_says_its_energy_and_a_machine_without_says_none(tmp_path):
    with measured_energy(Machine(tmp_path / "orin", "agx-orin-64gb").root, interval_s=0.02) as energy_j:
        wait_until(lambda: (energy_j() or 0) > 0, "the first joules")
        first = energy_j()
        wait_until(lambda: energy_j() > first, "more joules")
    with measured_energy(tmp_path / "nothing") as energy_j:
        assert energy_j() is None
