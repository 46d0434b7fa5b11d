"""A GPU through NVIDIA's own binding and a stand-in for the driver's library, which may refuse any call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

A100 = {
    "utilisation": 93, "memory_total": 40 << 30, "memory_used": 10 << 30, "temperature": 61, "power_mw": 251_500,
    "power_limit_mw": 400_000, "energy_mj": 1_000_000, "clock_mhz": 1410, "throttle_reasons": 0, "slowdown": 92,
}  # fmt: skip
READ = """
import json, sys
from pathlib import Path
from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.nvml import find_gpu
from hpctrain.monitor.sensors import Sensors
root = Path(sys.argv[1])
gpu, reason = find_gpu(sys.argv[2] or None)
if gpu is None:
    print(json.dumps({"error": reason}))
    sys.exit()
sensors, meter, samples = Sensors(root, gpu=gpu, thermal_limit_c=70.0), EnergyMeter(30.0), []
script = Path(sys.argv[3])
for second, text in enumerate(json.loads(sys.argv[4])):
    script.write_text(text)
    samples.append(sensors.read(10.0 * second, meter))
readings = [reading.describe() for reading in sensors.readings(samples[-1], None)]
print(json.dumps({"name": gpu.name, "samples": samples, "absent": sensors.absent(), "energy_j": meter.total_j,
                  "unmeasured_s": meter.longest_unmeasured_s, "readings": readings}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for the driver's library")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture
def ask(library, tmp_path):
    """Return a function that reads a GPU, once for each script of what it tells."""

    def run(*scripts: dict[str, object], name: str = "NVIDIA A100", uuid: str = "", root: Path = tmp_path / "root"):
        file = tmp_path / "script"
        texts = ["".join(f"{key} {value}\n" for key, value in script.items()) for script in scripts]
        file.write_text(texts[0])
        environment = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(file), "FAKE_NVML_NAME": name}
        done = subprocess.run(
            [sys.executable, "-c", READ, str(root), uuid, str(file), json.dumps(texts)],
            env={**os.environ, **environment}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_gpu_tells_utilisation_memory_temperature_power_clocks_and_energy(ask):
    found = ask(A100, {**A100, "energy_mj": 3_500_000})
    values = found["samples"][-1]
    assert found["name"] == "NVIDIA A100"
    assert values["gpu_utilisation_percent"] == 93.0
    assert (values["gpu_memory_used_gib"], values["gpu_memory_total_gib"]) == (10.0, 40.0)
    assert (values["gpu_temperature_c"], values["gpu_power_w"], values["gpu_power_limit_w"]) == (61.0, 251.5, 400.0)
    assert values["gpu_clock_mhz"] == 1410.0
    assert values["gpu_throttled_by_heat"] == values["gpu_throttled_by_power"] == 0.0
    assert found["energy_j"] == pytest.approx(2500.0)  # the counter, not power times time
    assert found["readings"] == ["GPU 61.0 °C; monitor.thermal_limit_c 70 °C"]


def test_on_orin_the_name_is_told_and_nothing_else_is_zero(ask, tmp_path):
    found = ask({}, {}, name="Orin (nvgpu)")
    assert found["name"] == "Orin (nvgpu)"
    assert not any(name.startswith("gpu_") for sample in found["samples"] for name in sample)
    assert found["energy_j"] is None
    absent = {name: why for name, why in found["absent"].items() if name.startswith("gpu")}
    assert set(absent) == {
        "gpu_utilisation_percent", "gpu_memory_used_gib", "gpu_temperature_c", "gpu_power_w", "gpu_power_limit_w",
        "gpu_clock_mhz", "gpu_throttle_reasons", "gpu_energy_j",
    }  # fmt: skip
    assert set(absent.values()) == {"NVML: Not Supported"}


def test_on_a_recorded_orin_sysfs_tells_what_nvml_does_not(ask, tmp_path):
    from machines import Machine

    found = ask({}, {}, name="Orin (nvgpu)", root=Machine(tmp_path / "orin", "agx-orin-64gb").root)
    values = found["samples"][-1]
    assert (values["gpu_utilisation_percent"], values["gpu_temperature_c"]) == (98.7, 71.5)
    assert set(found["absent"]) == {"gpu_throttle_reasons"}
    assert found["energy_j"] == pytest.approx(10 * values["board_power_w"], rel=1e-4)
    assert {line.split()[0] for line in found["readings"]} == {"cpu", "gpu", "soc0", "tj", "tboard", "tdiode"}


def test_a_single_call_that_is_refused_leaves_the_others(ask):
    without = {key: value for key, value in A100.items() if key not in ("power_mw", "energy_mj")}
    found = ask(without)
    assert "gpu_power_w" not in found["samples"][0]
    assert found["samples"][0]["gpu_temperature_c"] == 61.0
    assert {name for name in found["absent"] if name.startswith("gpu")} == {"gpu_power_w", "gpu_energy_j"}


def test_without_an_energy_counter_power_is_integrated(ask):
    older = {key: value for key, value in A100.items() if key != "energy_mj"}
    found = ask({**older, "power_mw": 100_000}, {**older, "power_mw": 200_000})
    assert found["energy_j"] == pytest.approx(1500.0)


def test_an_error_of_the_moment_costs_that_moment_only(ask):
    lost = {**A100, "power_mw": "error 15", "utilisation": "error 999", "energy_mj": "error 15"}
    found = ask(A100, lost, {**A100, "energy_mj": 2_000_000})
    first, second, third = found["samples"]
    assert "gpu_power_w" in first
    assert "gpu_power_w" not in second
    assert "gpu_utilisation_percent" not in second
    assert third["gpu_power_w"] == 251.5
    assert found["energy_j"] == pytest.approx(1000.0)
    assert not any(name.startswith("gpu") for name in found["absent"])


@pytest.mark.parametrize(
    ("bits", "heat", "power"), [(0x1, 0, 0), (0x4, 0, 1), (0x20, 1, 0), (0x40 | 0x80, 1, 1), (0x2 | 0x10, 0, 0)]
)
def test_idle_and_chosen_clocks_are_no_throttling(ask, bits, heat, power):
    values = ask({**A100, "throttle_reasons": bits})["samples"][0]
    assert (values["gpu_throttled_by_heat"], values["gpu_throttled_by_power"]) == (heat, power)


@pytest.mark.parametrize("uuid", ["GPU-11111111", "11111111", "66666666"], ids=["whole", "as CUDA says it", "MIG"])
def test_the_gpu_of_a_rank_is_found_by_its_uuid(ask, uuid):
    assert ask({**A100, "count": 4}, uuid=f"{uuid}-2222-3333-4444-555555555555")["name"] == "NVIDIA A100"


def test_a_gpu_that_cannot_be_told_from_others_is_not_guessed(ask):
    unknown = "99999999-0000-0000-0000-000000000000"
    assert "does not know GPU MIG-99999999" in ask({**A100, "count": 4}, uuid=unknown)["error"]
    assert "CUDA reports no UUID" in ask({**A100, "count": 4})["error"]
    assert ask(A100, uuid=unknown)["name"] == "NVIDIA A100"  # there is only one


def test_a_driver_that_is_not_loaded_is_said(ask):
    assert "Driver Not Loaded" in ask({"init": 1})["error"]


def test_a_machine_without_the_library_says_so(tmp_path):
    code = (
        "from hpctrain.monitor.nvml import NvmlGpu\ntry:\n    NvmlGpu()\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": ""}
    )
    if "NVML" not in done.stdout:
        pytest.skip("this machine has the driver's library")
    assert done.stdout.strip() == "NVML: NVML Shared Library Not Found"
