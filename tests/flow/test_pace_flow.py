"""Whole runs on a recorded board that heats up: they slow down, wait, recover, or leave; the bytes are the same."""

from __future__ import annotations

import json
import signal
import time

import pytest
from machines import Machine

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.errors import EXIT_TOO_HOT
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.monitor.sysfs import ROOT_VARIABLE
from hpctrain.rundir import file_digest, read_json

QUICK = {"sample_interval_s": 0.05, "dwell_s": 0.0, "heartbeat_s": 0.1, "hang_timeout_s": 30.0}
LONG = {"epochs": 16, "accumulation": 4, "batch_size": 8, "evaluate_every_steps": 40}


def model_digest(run):
    return file_digest(run.model / "model.safetensors")


def losses(run):
    return [(record["step"], record["loss"]) for record in run.read_metrics("train")]


def events(run, name):
    return [record for record in run.read_metrics("event") if record["event"] == name]


def wait_until(condition, ranks, timeout_s=600.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, ranks.run
        assert ranks.processes[0].poll() is None, ranks.processes[0].communicate()
        time.sleep(0.02)


def heartbeat_state(run, rank=0):
    return (read_json(run.heartbeat(rank)) or {}).get("state")


@pytest.fixture(scope="module")
def undisturbed():
    """Digest and losses of a run that nothing slowed down, by number of ranks; filled by the first that asks."""
    return {}


@pytest.fixture
def straight(undisturbed, make_run, start):
    def of(world_size):
        if world_size not in undisturbed:
            run = make_run(f"straight-{world_size}", train=LONG, monitor=QUICK)
            assert start(run, world_size).wait() == [0] * world_size
            undisturbed[world_size] = (model_digest(run), losses(run))
        return undisturbed[world_size]

    return of


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_that_gets_hot_waits_recovers_and_ends_with_the_same_bytes(
    world_size, straight, make_run, start, tmp_path
):
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    run = make_run(f"heated-{world_size}", train=LONG, monitor=QUICK)
    ranks = start(run, world_size, **{ROOT_VARIABLE: str(machine.root)})
    ranks.wait_for_step(10)
    machine.heat(89.0)
    wait_until(lambda: [e["level"] for e in events(run, "pace")] == ["warm"], ranks)
    machine.heat(94.0)
    for rank in range(world_size):
        wait_until(lambda rank=rank: heartbeat_state(run, rank) == "cooling", ranks)
    stood_at = max(step for step, _ in losses(run))
    time.sleep(0.5)
    assert max(step for step, _ in losses(run)) == stood_at  # it waits
    machine.heat(50.0)
    assert ranks.wait() == [0] * world_size, ranks.stderr
    assert [e["level"] for e in events(run, "pace")] == ["warm", "hot", "warm", "ok"]
    assert (model_digest(run), losses(run)) == straight(world_size)
    energy = sum_up(read_ledgers(run))
    assert energy.rested_s > 0.5
    [finished] = events(run, "finished")
    assert finished["energy_kwh"] == pytest.approx(energy.kwh)
    seen = list(run.read_metrics("train"))[-1]["samples_seen"]
    assert finished["joules_per_sample"] == pytest.approx(energy.joules / seen)
    watts = [record["board_power_w"] for record in run.read_metrics("monitor")]
    assert energy.joules == pytest.approx(watts[0] * energy.measured_s, rel=0.02)


def test_a_critical_board_makes_all_ranks_save_and_leave_and_the_next_attempt_ends_the_same(
    straight, make_run, start, tmp_path
):
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    run = make_run("critical", train=LONG, monitor=QUICK)
    ranks = start(run, 2, **{ROOT_VARIABLE: str(machine.root)})
    ranks.wait_for_step(10)
    machine.heat(101.0)
    assert ranks.wait() == [EXIT_TOO_HOT] * 2, ranks.stderr
    [stopped] = events(run, "stopped")
    assert stopped["exit_code"] == EXIT_TOO_HOT
    assert stopped["cause"].startswith("critical: tj 101.0 °C")
    assert max(step for step, _ in list_checkpoints(run)) == stopped["step"]
    assert heartbeat_state(run) == "stopped"
    before = sum_up(read_ledgers(run)).joules
    machine.heat(60.0)
    again = start(run, 2, **{ROOT_VARIABLE: str(machine.root)})
    assert again.wait() == [0, 0], again.stderr
    assert (model_digest(run), losses(run)) == straight(2)
    assert sum_up(read_ledgers(run)).joules > before
    attempts = read_ledgers(run)[0].attempts
    assert [sums.attempt for sums in attempts] == [1, 2]
    again_from = next(record["step"] for record in run.read_metrics("monitor") if record["attempt"] == 2)
    assert again_from == stopped["step"]
    assert all(sums.energy_j > 0 for sums in attempts)


def test_a_board_that_is_critical_from_the_start_is_not_heated_by_a_single_step(make_run, start, tmp_path):
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    machine.heat(101.0)
    run = make_run("too-hot-to-begin", train=LONG, monitor=QUICK)
    ranks = start(run, 1, **{ROOT_VARIABLE: str(machine.root)})
    assert ranks.wait() == [EXIT_TOO_HOT], ranks.stderr
    assert losses(run) == []
    assert list_checkpoints(run) == []  # so that it counts as an attempt without progress
    [stopped] = events(run, "stopped")
    assert (stopped["step"], stopped["exit_code"]) == (0, EXIT_TOO_HOT)


def test_a_run_that_waits_obeys_a_stop_on_all_ranks_while_it_is_still_hot(straight, make_run, start, tmp_path):
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    run = make_run("stopped-while-hot", train=LONG, monitor=QUICK)
    ranks = start(run, 2, **{ROOT_VARIABLE: str(machine.root)})
    ranks.wait_for_step(10)
    machine.heat(94.0)
    wait_until(lambda: heartbeat_state(run) == "cooling", ranks)
    ranks.signal(signal.SIGTERM, ranks=[1])  # the rank that reads no sensors hears of it, and both leave
    assert ranks.wait() == [75, 75], ranks.stderr
    machine.heat(50.0)
    assert start(run, 2, **{ROOT_VARIABLE: str(machine.root)}).wait() == [0, 0]
    assert (model_digest(run), losses(run)) == straight(2)


def test_limits_of_the_profile_and_prometheus_hold_for_a_real_run(make_run, start, tmp_path):
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    machine = Machine(tmp_path / "laptop", "laptop")
    machine.heat(76.0, "x86_pkg_temp")
    monitor = {**QUICK, "thermal_limit_c": 70.0, "prometheus_textfile": str(tmp_path / "prom" / "%r.prom")}
    run = make_run("limited", train={"epochs": 2}, monitor=monitor)
    assert start(run, 1, **{ROOT_VARIABLE: str(machine.root)}).wait() == [0]
    assert [e["level"] for e in events(run, "pace")] == ["warm"]
    assert sum_up(read_ledgers(run)).rested_s > 0
    [file] = (tmp_path / "prom").iterdir()
    families = {family.name: family for family in text_string_to_metric_families(file.read_text())}
    [level] = families["hpctrain_pace_level"].samples
    assert level.value == 1.0
    assert level.labels["run"] == "flow/limited"


def test_a_run_whose_sensors_tell_nothing_trains_and_says_what_it_lacks(make_run, start, tmp_path):
    run = make_run("blind", train={"epochs": 1}, monitor=QUICK)
    (tmp_path / "nothing").mkdir()
    ranks = start(run, 1, **{ROOT_VARIABLE: str(tmp_path / "nothing")})
    assert ranks.wait() == [0], ranks.stderr
    [sensors] = events(run, "sensors")
    assert set(sensors["absent"]) == {"cpu_package_power_w", "temperature"}
    [finished] = events(run, "finished")
    assert "energy_kwh" not in finished
    assert json.loads(run.monitor_file(0).read_text())["attempts"]["1"]["energy_j"] is None
