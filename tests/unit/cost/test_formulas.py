"""The formulas of the advice: fewer GPUs, spot machines against a simulation, prices, the time of a step."""

from __future__ import annotations

import random

import pytest

from hpctrain.cost.machine import Machine, platform_of
from hpctrain.cost.money import amount_per_hour, hourly_price
from hpctrain.cost.spot import expected_ratio, spot_against_others
from hpctrain.errors import SiteError
from hpctrain.monitor.sizing import right_size
from hpctrain.profile.platforms import PLATFORMS
from hpctrain.profile.sections.prices import PriceSection
from hpctrain.profile.site import Site, load_site
from hpctrain.profile.speeds import SPEEDS, pass_time_s


def simulated_ratio(rate: float, start: float, interval: float, saves_in_time: bool, seed: int) -> float:
    """Return the paid time of one run of 40 hours against its work, interrupted at random."""
    draw, work, done, paid = random.Random(seed), 40.0, 0.0, 0.0
    is_first = True
    while done < work:
        alive = draw.expovariate(rate)
        useful = alive - (0.0 if is_first else start)
        if useful >= work - done:
            return (paid + alive - (useful - (work - done))) / work
        paid += alive
        if useful > 0:
            reached = done + useful
            done = reached if saves_in_time else reached // interval * interval
            is_first = False
    return paid / work


@pytest.mark.parametrize(
    ("rate", "start", "interval", "saves_in_time"),
    [(0.2, 0.1, 0.5, True), (0.2, 0.1, 0.5, False), (1.0, 0.2, 1.0, True), (1.0, 0.2, 1.0, False)],
)
def test_the_paid_time_on_spot_machines_is_that_of_a_simulation(rate, start, interval, saves_in_time):
    runs = [simulated_ratio(rate, start, interval, saves_in_time, seed) for seed in range(600)]
    expected = expected_ratio(rate, start, 0.0 if saves_in_time else interval)
    assert sum(runs) / len(runs) == pytest.approx(expected, rel=0.02)


def test_a_save_that_is_too_slow_for_the_warning_costs_the_steps_since_the_last_checkpoint():
    entry = PriceSection(gpu_hour=2.0, spot_gpu_hour=1.5, interruptions_per_hour=0.5, warning_s=30.0)
    times = {"work_s": 36000.0, "start_s": 120.0, "interval_s": 1800.0}
    quick = spot_against_others(entry, Machine(2, 8, 64), save_s=20.0, **times)
    slow = spot_against_others(entry, Machine(2, 8, 64), save_s=40.0, **times)
    assert (quick.saves_in_time, slow.saves_in_time) == (True, False)
    assert quick.cost_ratio < 1 < slow.time_ratio
    assert slow.time_ratio > quick.time_ratio + 0.2
    assert spot_against_others(PriceSection(gpu_hour=2.0), Machine(1, 1, 1), save_s=1.0, **times) is None
    assert expected_ratio(10.0, 3600.0, 0.0) == float("inf")


@pytest.mark.parametrize(
    ("gpus", "utilisation", "found"),
    [
        (4, 0.31, (1, 1.305, 0.326)),
        (8, 0.5, (4, 1.053, 0.526)),
        (4, 0.05, (1, 1.0, 0.25)),
        (4, 0.9, None),
        (1, 0.1, None),
        (6, 0.3, (2, 1.0, 1 / 3)),
    ],
)
def test_fewer_gpus_share_the_work_and_are_never_faster(gpus, utilisation, found):
    size = right_size(gpus, utilisation)
    assert (size is None) == (found is None)
    if found is not None:
        assert (size.gpus, size.time_ratio, size.cost_ratio) == pytest.approx(found, abs=1e-3)


def test_prices_of_gpus_cores_and_nodes_are_added_up():
    entry = PriceSection(gpu_hour=2.0, core_hour=0.01, node_hour=0.5, spot_node_hour=1.0)
    assert amount_per_hour(entry, Machine(2, 8, 64), is_spot=False) == pytest.approx(16 + 0.64 + 1.0)
    assert amount_per_hour(entry, Machine(2, 8, 64), is_spot=True) == pytest.approx(2.0)


def test_a_spot_run_without_a_spot_price_is_priced_like_others_and_says_so():
    prices = {"date": "2026-11-01", "instance_types": {"ml.g5.xlarge": {"node_hour": 1.4}}}
    site = Site.model_validate({"prices": prices})
    price = hourly_price(Machine(1, 1, 4, instance_type="ml.g5.xlarge", is_spot=True), site)
    assert price.amount == 1.4
    assert "no spot price" in price.note


def test_a_price_list_needs_a_day_and_each_entry_a_price(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    (tmp_path / "odd.yaml").write_text("prices:\n  partitions:\n    gpu: {warning_s: 3}\n")
    with pytest.raises(SiteError) as caught:
        load_site("odd")
    assert "prices.date" in str(caught.value)
    assert "prices.partitions.gpu: has no price; give gpu_hour, core_hour or node_hour" in str(caught.value)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10G", "a10"),
        ("Tesla V100-SXM2-32GB", "v100-32"),
        ("", None),
        ("AMD Instinct", None),
    ],
)
def test_the_platform_follows_from_the_name_that_the_driver_gives(device, name):
    assert platform_of(device) == name


def test_every_platform_has_a_speed():
    assert set(SPEEDS) == set(PLATFORMS)


@pytest.mark.parametrize(
    ("precision", "flop", "made", "kernels", "measured_per_s"),
    [
        ("fp32", 3054e6, 69.2e6, 514, 5000),  # the convolutional network of docs/performance.md, 4,000 pixels
        ("tf32", 3054e6, 69.2e6, 514, 9400),
        ("bf16", 3054e6, 42.9e6, 602, 11700),
        ("fp32", 5.36e6, 2.79e6, 389, 41000),  # the default network, which the host limits
        ("bf16", 5.36e6, 2.79e6, 425, 39000),
    ],
)
def test_the_time_of_a_step_is_within_a_factor_of_two_of_what_an_h100_showed(
    precision, flop, made, kernels, measured_per_s
):
    per_s = 512 / pass_time_s("h100", precision, 512, flop, made, kernels)
    assert measured_per_s / 2 < per_s < measured_per_s * 2
