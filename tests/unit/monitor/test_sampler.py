"""The thread that reads, records and judges; what it leaves behind for others to add up."""

from __future__ import annotations

import json
import os
import threading

import pytest
from machines import Machine
from processes import wait_until

from hpctrain.metrics.events import MemoryShort, OverCurrent
from hpctrain.monitor.ledger import Ledger, read_ledgers, sum_up
from hpctrain.monitor.pace import Governor, Level
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir

BOARD_W = 19.968 * 0.160 + 19.960 * 0.720 + 5.040


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class Watched:
    """A recorded board, a clock of ours, and everything that was told."""

    def __init__(self, tmp_path, machine="agx-orin-64gb", attempt=1, rank=0, **limits):
        self.machine = Machine(tmp_path / f"machine-{rank}", machine)
        self.run = RunDir(tmp_path / "run")
        self.run.path.mkdir(exist_ok=True)
        self.clock, self.samples, self.events = Clock(), [], []
        self.sampler = Sampler(
            Sensors(self.machine.root, **limits), Governor(dwell_s=10.0), Ledger(self.run, rank, attempt, "here"), 5.0,
            step=lambda: 42, on_sample=self.samples.append,
            on_event=self.events.append,
            clock=self.clock,
        )  # fmt: skip

    def pass_time(self, seconds, every=5.0):
        for _ in range(int(seconds / every)):
            self.clock.now_s += every
            self.sampler.sample()

    def named(self, name):
        return [event for event in self.events if event.name == name]


def test_a_sample_is_told_with_names_and_units_and_kept_with_its_sums(tmp_path):
    watched = Watched(tmp_path)
    watched.sampler.sample()
    watched.pass_time(60)
    assert watched.samples[-1]["board_power_w"] == pytest.approx(BOARD_W, abs=1e-3)
    assert watched.samples[-1]["energy_j"] == pytest.approx(60 * BOARD_W, rel=1e-4)
    assert watched.samples[-1]["pace"] == "ok"
    [state] = read_ledgers(watched.run)
    assert (state.rank, state.step, state.host) == (0, 42, "here")
    assert state.values == watched.samples[-1]
    [sums] = state.attempts
    assert (sums.measured_s, sums.unmeasured_s) == (60.0, 0.0)
    assert sums.by_source_j == {"board": pytest.approx(60 * BOARD_W, rel=1e-4)}
    assert sums.statistics["max_gpu_temperature_c"] == 71.5
    assert sums.statistics["mean_board_power_w"] == pytest.approx(BOARD_W, abs=1e-3)


def test_what_is_absent_is_told_once(tmp_path):
    watched = Watched(tmp_path, "laptop")
    watched.machine.write("sys/class/powercap/intel-rapl:0/energy_uj", "5")
    for _ in range(5):
        watched.sampler.sample()
    assert len(watched.named("sensors")) == 1
    bare = Watched(tmp_path / "bare", "orin-nx-16gb")
    (bare.machine.root / "sys/class/devfreq").rename(bare.machine.root / "gone")
    bare.sampler = Sampler(
        Sensors(bare.machine.root), Governor(1.0), Ledger(bare.run, 0, 1, "here"), 5.0, lambda: 0,
        on_event=bare.events.append,
    )  # fmt: skip
    for _ in range(5):
        bare.sampler.sample()
    [sensors] = bare.named("sensors")
    assert sensors.absent == {"gpu_utilisation_percent": "no GPU in devfreq", "gpu_clock_mhz": "no GPU in devfreq"}
    assert read_ledgers(bare.run)[0].absent == sensors.absent


def test_heat_changes_the_pace_and_says_why(tmp_path):
    watched = Watched(tmp_path)
    watched.sampler.sample()
    watched.machine.heat(88.5)
    watched.pass_time(5)
    assert watched.sampler.level is Level.WARM
    assert watched.sampler.duty == pytest.approx(0.55)
    watched.machine.heat(60.0)
    watched.pass_time(20)
    assert watched.sampler.level is Level.OK
    assert [(event.before, event.level) for event in watched.named("pace")] == [("ok", "warm"), ("warm", "ok")]
    assert watched.named("pace")[0].reason.startswith("tj 88.5 °C")
    texts = [event["text"] for event in read_ledgers(watched.run)[0].events]
    assert any(text.startswith("warm: slows down at step 42 (tj 88.5 °C") for text in texts)


def test_over_current_and_short_memory_and_a_new_power_mode_are_events(tmp_path):
    watched = Watched(tmp_path)
    watched.sampler.sample()
    watched.machine.write("sys/devices/platform/soctherm-oc-event/hwmon/hwmon5/oc3_event_cnt", "2")
    watched.machine.write("var/lib/nvpmodel/status", "pmode:0002")
    watched.machine.write("proc/meminfo", "MemTotal: 64323604 kB\nMemAvailable: 1048576 kB")
    watched.pass_time(10)
    assert watched.named("over_current") == [OverCurrent(what="2 over-current events of oc3 (instantaneous current)")]
    assert [event.mode for event in watched.named("power_mode")] == ["MAXN", "MODE_30W"]
    assert watched.named("memory_short") == [MemoryShort(reason="1.00 GiB available, 2 % of what the job may use")]
    assert watched.sampler.memory_is_short
    assert watched.sampler.level is Level.WARM


def test_a_limit_of_power_holds_for_the_mean_not_for_a_burst(tmp_path):
    watched = Watched(tmp_path, power_limit_w=30.0)
    watched.sampler.sample()
    watched.machine.write("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input", "1000")  # 39 W
    watched.pass_time(5)
    assert watched.sampler.level is Level.OK
    watched.pass_time(60)
    assert watched.sampler.level is Level.WARM
    assert watched.sampler.duty < 0.2


def test_an_attempt_that_was_killed_keeps_what_it_had_measured_and_all_ranks_add_up(tmp_path):
    first = Watched(tmp_path, attempt=1)
    first.sampler.sample()
    first.pass_time(50)  # killed here: it never says goodbye
    second = Watched(tmp_path, attempt=2)
    second.sampler.sample()
    second.pass_time(20)
    other = Watched(tmp_path, attempt=2, rank=1)
    other.sampler.sample()
    other.pass_time(10)
    energy = sum_up(read_ledgers(first.run))
    assert energy.joules == pytest.approx(80 * BOARD_W, rel=1e-4)
    assert energy.kwh == pytest.approx(80 * BOARD_W / 3.6e6, rel=1e-4)
    assert energy.by_source_j == {"board": pytest.approx(80 * BOARD_W, rel=1e-4)}
    assert energy.measured_s == 70.0
    assert energy.per_sample_j(1000) == pytest.approx(0.08 * BOARD_W, rel=1e-4)


def test_a_suspended_board_has_unmeasured_time(tmp_path):
    watched = Watched(tmp_path)
    watched.sampler.sample()
    watched.pass_time(10)
    watched.clock.now_s += 3600.0
    watched.sampler.sample()
    energy = sum_up(read_ledgers(watched.run))
    assert energy.joules == pytest.approx(10 * BOARD_W, rel=1e-4)
    assert energy.unmeasured_s == 3600.0


def test_a_run_without_any_power_sensor_has_no_energy_and_not_zero(tmp_path):
    watched = Watched(tmp_path)
    (watched.machine.root / "sys/bus").rename(watched.machine.root / "gone")
    watched.sampler = Sampler(Sensors(watched.machine.root), Governor(1.0), Ledger(watched.run, 0, 1, "here"), 5.0, int)
    watched.sampler.sample()
    energy = sum_up(read_ledgers(watched.run))
    assert energy.joules is None
    assert energy.kwh is None
    assert energy.per_sample_j(10) is None


def test_a_damaged_file_of_one_rank_is_passed_over(tmp_path):
    watched = Watched(tmp_path)
    watched.sampler.sample()
    watched.run.monitor_file(1).write_text('{"rank": 1, "ho')
    watched.run.monitor_file(2).write_text("[1, 2]")
    watched.run.monitor_file(3).write_text(json.dumps({"rank": 3}))
    assert [state.rank for state in read_ledgers(watched.run)] == [0]


def test_a_surprise_in_a_sample_costs_that_sample_and_lets_the_run_go(tmp_path, capsys):
    watched = Watched(tmp_path)
    watched.machine.heat(93.0)
    watched.sampler.sample()
    assert watched.sampler.level is Level.HOT
    surprise = threading.Event()

    def on_sample(values):
        if surprise.is_set():
            raise RuntimeError("a full moon")

    sampler = Sampler(
        Sensors(watched.machine.root), Governor(10.0), Ledger(watched.run, 0, 1, "here"), 5.0, int, on_sample,
        clock=watched.clock,
    )  # fmt: skip
    sampler.sample()
    surprise.set()
    sampler.sample()
    sampler.sample()
    assert capsys.readouterr().err.count("a full moon") == 1
    assert sampler.level is Level.HOT  # it is hot, and could be read


def test_a_sampler_that_can_no_longer_read_does_not_hold_the_run_up(tmp_path):
    watched = Watched(tmp_path)
    watched.machine.heat(93.0)
    broken = threading.Event()

    def on_event(event):
        if broken.is_set():
            raise RuntimeError("a full moon")

    sampler = Sampler(
        Sensors(watched.machine.root), Governor(10.0), Ledger(watched.run, 0, 1, "here"), 5.0, int, on_event=on_event,
        clock=watched.clock,
    )  # fmt: skip
    sampler.sample()
    assert sampler.level is Level.HOT
    broken.set()
    for mode in (1, 2, 3):  # each is an event, told before the temperatures are judged
        watched.machine.write("var/lib/nvpmodel/status", f"pmode:000{mode}")
        watched.clock.now_s += 15.0
        sampler.sample()
    assert sampler.level is Level.OK


def test_a_full_disk_costs_the_record_and_nothing_else(tmp_path, tiny_disk):
    watched = Watched(tmp_path)
    watched.run = RunDir(tiny_disk / "run")
    watched.run.path.mkdir()
    (tiny_disk / "filler").write_bytes(b"x" * 60_000)
    sampler = Sampler(Sensors(watched.machine.root), Governor(1.0), Ledger(watched.run, 0, 1, "here"), 5.0, int)
    sampler.sample()
    (tiny_disk / "filler").unlink()
    sampler.sample()
    assert len(read_ledgers(watched.run)) == 1


def test_the_thread_samples_again_and_again_and_once_more_at_the_end(tmp_path):
    watched = Watched(tmp_path)
    samples = []
    sampler = Sampler(
        Sensors(watched.machine.root), Governor(1.0), Ledger(watched.run, 0, 1, "here"), 0.05, int, samples.append
    )
    with sampler:
        wait_until(lambda: len(samples) >= 4, "samples")
    assert samples[-1]["energy_j"] > 0.0
    assert not monitor_threads()


def test_a_sensor_that_hangs_delays_no_end_and_writes_nothing_after_it(tmp_path, monkeypatch):
    """A named pipe nobody writes to is a file whose reader waits: without a limit, for ever."""
    watched = Watched(tmp_path)
    monkeypatch.setattr("hpctrain.monitor.sampler.LONGEST_WAIT_S", 0.3)
    samples = []
    sampler = Sampler(
        Sensors(watched.machine.root), Governor(1.0), Ledger(watched.run, 0, 1, "here"), 0.02, int, samples.append
    )
    load = watched.machine.root / "sys/class/devfreq/17000000.gpu/device/load"
    with sampler:
        wait_until(lambda: samples, "a sample")
        load.rename(load.with_name("gone"))
        os.mkfifo(load)
        writer = wait_for_reader(load)  # held open and silent: whoever reads it waits
        count = len(samples)
    os.write(writer, b"500")  # it answers when all is over
    os.close(writer)
    wait_until(lambda: not monitor_threads(), "the end of the thread")
    assert len(samples) == count


def monitor_threads():
    return [thread for thread in threading.enumerate() if thread.name == "monitor"]


def wait_for_reader(pipe):
    """Return a descriptor to write to a pipe that somebody waits for, which shows that somebody does."""
    found = []

    def opened():
        try:
            found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it
            return False
        return True

    wait_until(opened, "the sampler to read the sensor that hangs")
    return found[0]
