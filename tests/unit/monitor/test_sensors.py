"""What a recorded machine tells: rails, zones, clocks, memory, over-current; what cannot be read is absent."""

from __future__ import annotations

import os
import time

import pytest
from machines import Machine

from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.hostmemory import HostMemory
from hpctrain.monitor.jetson import PowerMode, board_name, is_jetson
from hpctrain.monitor.overcurrent import OverCurrent
from hpctrain.monitor.processor import MachineLoad, ProcessLoad, find_packages
from hpctrain.monitor.rails import PowerRails, find_rails
from hpctrain.monitor.sensors import Sensors
from hpctrain.monitor.sysfs import ROOT_VARIABLE, sysfs_root
from hpctrain.monitor.thermal import find_zones, read_temperatures

GPU_SOC_W, CPU_CV_W, SYS_5V0_W = 19.968 * 0.160, 19.960 * 0.720, 5.040 * 1.000


@pytest.fixture
def orin(tmp_path):
    return Machine(tmp_path / "orin", "agx-orin-64gb")


def read(machine, seconds=1.0):
    sensors = Sensors(machine.root)
    return sensors, sensors.read(seconds, EnergyMeter(10.0))


def test_the_power_of_an_agx_orin_is_three_rails_and_none_of_them_twice(orin):
    values = PowerRails(orin.root).read()
    assert values["board_power_w"] == pytest.approx(GPU_SOC_W + CPU_CV_W + SYS_5V0_W)
    assert values["rail_vddq_vdd2_1v8ao_w"] == pytest.approx(5.040 * 0.216)
    assert len(values) == 5  # not those that are not connected, and not the sum of shunts


def test_rails_are_found_whatever_numbers_a_boot_has_given_them(orin):
    before = PowerRails(orin.root).read()
    orin.renumber({"hwmon3": "hwmon0", "hwmon4": "hwmon3"})
    assert PowerRails(orin.root).read() == before


def test_the_power_of_an_orin_nx_is_what_goes_in(tmp_path):
    values = PowerRails(Machine(tmp_path, "orin-nx-16gb").root).read()
    assert values["board_power_w"] == pytest.approx(4.976 * 2.250)


def test_a_rail_that_cannot_be_read_leaves_no_total_rather_than_a_smaller_one(orin):
    rails = PowerRails(orin.root)
    orin.write("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr2_input", "!EIO")
    values = rails.read()
    assert "board_power_w" not in values
    assert "rail_vdd_cpu_cv_w" not in values
    assert values["rail_vdd_gpu_soc_w"] == pytest.approx(GPU_SOC_W)


def test_a_board_without_power_monitors_says_so_and_has_no_power(orin):
    (orin.root / "sys/bus/i2c").rename(orin.root / "sys/bus/gone")
    sensors, values = read(orin)
    assert not any(name.endswith("power_w") for name in values)
    assert "INA3221" in sensors.absent()["board_power_w"]


def test_rails_that_make_no_known_total_are_told_one_by_one(orin):
    for number in (1, 2, 3):
        orin.write(f"sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in{number}_label", f"RAIL_{number}")
    rails = PowerRails(orin.root)
    assert "rail_rail_1_w" in rails.read()
    assert "VDDQ_VDD2_1V8AO" in rails.absent["board_power_w"]


def test_a_block_that_is_switched_off_has_no_temperature(orin):
    celsius = read_temperatures(find_zones(orin.root))
    assert celsius["temperature_cpu_c"] == 77.281
    assert celsius["temperature_tj_c"] == 77.281
    assert "temperature_cv0_c" not in celsius  # -256 °C
    assert "temperature_cv1_c" not in celsius  # an I/O error
    assert "temperature_tdiode_c" in celsius


def test_trip_points_are_read_and_those_no_chip_would_survive_are_not(orin, tmp_path):
    trips = {zone.name: zone.trips for zone in find_zones(orin.root)}
    assert (trips["tj"].passive, trips["tj"].hot, trips["tj"].critical) == (95.0, 99.0, 104.5)
    assert trips["tboard"].passive is None
    nano = {zone.name: zone.trips for zone in find_zones(Machine(tmp_path / "nx", "orin-nx-16gb").root)}
    assert (nano["cpu"].passive, nano["cpu"].hot, nano["cpu"].critical) == (99.0, None, 104.5)
    laptop = {zone.name: zone.trips for zone in find_zones(Machine(tmp_path / "laptop", "laptop").root)}
    assert laptop["acpitz"].passive is None
    assert laptop["acpitz"].critical is None


def test_over_current_events_count_from_the_start_of_the_run_not_from_the_boot(orin):
    over = OverCurrent(orin.root, PowerRails(orin.root))
    assert over.new_events() == []  # four since the boot are not ours
    orin.write("sys/devices/platform/soctherm-oc-event/hwmon/hwmon5/oc1_event_cnt", "7")
    assert over.new_events() == ["3 over-current events of oc1 (under-voltage)"]
    assert over.new_events() == []


def test_a_rail_above_its_critical_current_is_told_once_until_it_is_over(orin):
    over = OverCurrent(orin.root, PowerRails(orin.root))
    alarm = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_crit_alarm"
    orin.write(alarm, "1")
    assert over.new_events() == ["current of VDD_GPU_SOC above its critical limit"]
    assert over.new_events() == []
    orin.write(alarm, "0")
    assert over.new_events() == []
    orin.write(alarm, "1")
    assert len(over.new_events()) == 1


def test_a_jetson_is_known_by_its_files_and_a_laptop_is_none(orin, tmp_path):
    assert is_jetson(orin.root)
    assert board_name(orin.root) == "NVIDIA Jetson AGX Orin Developer Kit"
    (orin.root / "etc/nv_tegra_release").unlink()
    assert is_jetson(orin.root)  # by its device tree
    assert not is_jetson(Machine(tmp_path / "laptop", "laptop").root)


def test_the_power_mode_has_the_name_of_the_board_s_own_table(orin, tmp_path):
    mode = PowerMode(orin.root)
    assert mode.read() == "MAXN"
    orin.write("var/lib/nvpmodel/status", "pmode:0003")
    assert mode.read() == "MODE_50W"
    orin.write("var/lib/nvpmodel/status", "pmode:0009")
    assert mode.read() == "9"
    assert PowerMode(tmp_path / "nothing").read() is None


def test_nvpmodel_is_asked_where_it_keeps_no_status(tmp_path, monkeypatch):
    if os.path.exists("/var/lib/nvpmodel/status"):
        pytest.skip("this is a Jetson with a status of its own")
    command = tmp_path / "nvpmodel"
    command.write_text('#!/bin/sh\n[ "$1" = -q ] && printf "NV Power Mode: MODE_30W\\n2\\n"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert PowerMode().read() == "30W"


def test_an_orin_tells_its_load_its_clocks_its_memory_and_its_temperatures(orin):
    sensors, values = read(orin)
    assert values["gpu_utilisation_percent"] == 98.7
    assert values["gpu_clock_mhz"] == 1300.5
    assert values["gpu_temperature_c"] == 71.5
    assert values["cpu_clock_mhz"] == pytest.approx((2201.6 + 729.6) / 2)
    assert values["memory_total_gib"] == pytest.approx(61.34, abs=0.01)
    assert values["memory_available_gib"] == pytest.approx(41.0, abs=0.01)
    assert values["swap_used_gib"] == 0.0
    assert values["memory_pressure_percent"] == 0.0
    assert sensors.power_mode() == "MAXN"
    assert "gpu_memory_used_gib" not in values
    assert sensors.absent() == {}


def test_an_idle_gpu_is_zero_and_an_unreadable_one_is_absent(orin):
    orin.write("sys/class/devfreq/17000000.gpu/device/load", "0")
    assert read(orin)[1]["gpu_utilisation_percent"] == 0.0
    orin.write("sys/class/devfreq/17000000.gpu/device/load", "!EIO")
    assert "gpu_utilisation_percent" not in read(orin)[1]


def test_an_empty_machine_tells_nothing_and_breaks_nothing(tmp_path):
    sensors = Sensors(tmp_path)
    assert sensors.read(1.0, EnergyMeter(10.0)) == {}
    assert set(sensors.absent()) == {"cpu_package_power_w", "temperature"}
    assert sensors.alarms() == []
    assert sensors.readings({}, None) == []


def test_this_very_machine_can_be_read():
    sensors = Sensors()
    meter = EnergyMeter(10.0)
    sensors.read(time.monotonic(), meter)
    time.sleep(0.05)
    values = sensors.read(time.monotonic(), meter)
    assert 0 <= values["cpu_utilisation_percent"] <= 100
    assert values["process_memory_gib"] > 0.001


def test_the_share_of_the_cpus_at_work_is_that_since_the_last_look(orin):
    load = MachineLoad(orin.root)
    orin.write("proc/stat", "cpu  10030 0 2010 80055 105 0 50 0 0 0")
    assert load.read()["cpu_utilisation_percent"] == pytest.approx(100 * 40 / 100)


def test_the_load_of_this_process_is_in_cores():
    load = ProcessLoad()
    began_s, cpu_s = time.monotonic(), time.process_time()
    load.read(began_s)
    while time.process_time() - cpu_s < 0.3:
        pass
    ended_s = time.monotonic()
    assert load.read(ended_s)["process_cpu_percent"] == pytest.approx(100 * 0.3 / (ended_s - began_s), rel=0.2)


def test_only_whole_packages_count_for_the_energy_of_the_processors(tmp_path):
    packages, why_not = find_packages(Machine(tmp_path, "laptop").root)
    assert [package.name for package in packages] == ["package_0"]
    assert why_not == ""


def test_counters_that_only_root_may_read_are_told_from_none(tmp_path):
    laptop = Machine(tmp_path / "laptop", "laptop")
    laptop.write("sys/class/powercap/intel-rapl:0/energy_uj", "!EIO")
    assert "root" in find_packages(laptop.root)[1]
    assert "no RAPL" in find_packages(tmp_path)[1]


def test_the_energy_of_a_laptop_comes_from_its_counter_across_the_wrap(tmp_path):
    laptop = Machine(tmp_path, "laptop")
    sensors, meter = Sensors(laptop.root), EnergyMeter(10.0)
    assert "cpu_package_power_w" not in sensors.read(0.0, meter)
    laptop.write("sys/class/powercap/intel-rapl:0/energy_uj", "49671150")  # 50 J on, over the end of the counter
    assert sensors.read(5.0, meter)["cpu_package_power_w"] == pytest.approx(10.0)
    assert meter.total_j == pytest.approx(50.0)


def test_memory_is_short_once_and_again_only_after_it_was_not(tmp_path):
    nano = Machine(tmp_path, "orin-nx-16gb")
    memory = HostMemory(nano.root)

    def judge(available_kib, pressure_percent):
        nano.write("proc/meminfo", f"MemTotal: 15656672 kB\nMemAvailable: {available_kib} kB")
        nano.write("proc/pressure/memory", f"some avg10={pressure_percent} avg60=0.00 avg300=0.00 total=0")
        return memory.judge(memory.read())

    assert memory.read()["swap_used_gib"] == pytest.approx(2.0, abs=0.01)
    reason = memory.judge(memory.read())
    assert reason.startswith("1.19 GiB available, 8 % of what the job may use; some process waited")
    assert reason.endswith("in 21 % of the last ten seconds")
    assert judge(1_251_616, 21.4) == ""  # told already
    assert judge(1_900_000, 0.0) == ""
    assert memory.is_short  # a little above the mark is not enough to call it over
    assert judge(8_000_000, 0.0) == ""
    assert not memory.is_short
    assert judge(1_251_616, 0.0) != ""


def test_a_job_with_a_small_share_of_a_large_node_is_not_short_of_memory(tmp_path):
    orin = Machine(tmp_path, "agx-orin-64gb")
    orin.write("proc/self/cgroup", "0::/job_7")
    for name, text in {"cgroup.controllers": "memory", "job_7/memory.max": f"{4 << 30}"}.items():
        orin.write(f"sys/fs/cgroup/{name}", text)
    orin.write("sys/fs/cgroup/job_7/memory.stat", "inactive_file 0")
    orin.write("sys/fs/cgroup/job_7/memory.current", f"{2 << 30}")
    memory = HostMemory(orin.root)
    values = memory.read()
    assert values["memory_available_gib"] == 2.0
    assert memory.judge(values) == ""
    orin.write("sys/fs/cgroup/job_7/memory.current", f"{4 * 1000**3}")
    assert "7 % of what the job may use" in memory.judge(memory.read())


def test_the_root_of_the_machine_may_be_elsewhere(monkeypatch, tmp_path):
    assert str(sysfs_root()) == "/"
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert sysfs_root() == tmp_path


def test_no_rails_are_found_where_there_are_none(tmp_path):
    assert find_rails(tmp_path) == []
