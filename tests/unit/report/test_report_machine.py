"""Energy and heat on the page: sums over ranks and attempts, what was slowed down, and what nobody could measure."""

from __future__ import annotations

import re

import numpy as np
import pytest
from real_run import begun, copy_run, submitted, tell, write_records

from hpctrain.metrics.events import MemoryShort, PaceChanged
from hpctrain.metrics.read import read_history
from hpctrain.monitor.ledger import Ledger, read_ledgers
from hpctrain.report.machine import machine_figures, machine_section
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir


def sensors_at(step: int, rng: np.random.Generator) -> dict[str, object]:
    """Return what an A100 may tell, which is warm between steps 5 and 10."""
    is_warm = 5 < step <= 10
    return {
        "gpu_utilisation_percent": 96.0 + rng.normal(), "gpu_power_w": (280.0 if is_warm else 341.0) + 5 * rng.normal(),
        "gpu_temperature_c": (83.0 if is_warm else 66.0) + 0.4 * rng.normal(), "gpu_memory_used_gib": 12.7,
        "gpu_memory_total_gib": 40.0, "gpu_throttled_by_heat": 0.0, "gpu_throttled_by_power": float(is_warm),
        "cpu_utilisation_percent": 21.0 + rng.normal(), "memory_available_gib": 402.0, "process_memory_gib": 6.1,
        "pace": "warm" if is_warm else "ok", "duty": 0.8 if is_warm else 1.0,
    }  # fmt: skip


def write_ledgers(run: RunDir, num_ranks: int = 4, num_attempts: int = 3) -> None:
    """Write what the sensors of each rank have told, as the sampler does; rank 3 has no power reading."""
    rng = np.random.default_rng(5)
    for rank in range(num_ranks):
        for attempt in range(1, num_attempts + 1):
            ledger = Ledger(run, rank, attempt, f"gpu-node-0{7 + rank // 2}")
            values = {name: value for name, value in sensors_at(100, rng).items() if rank < 3 or name != "gpu_power_w"}
            if rank == 2 and attempt == 2:
                ledger.note("hot: waits at step 9 (GPU 88.0 °C; monitor.thermal_limit_c 80 °C)")
            ledger.absent = {} if rank < 3 else {"gpu_power_w": "NVML: <Not Supported>"}
            energy_j = 900_000.0 if rank < 3 else None
            by_source_j = {"gpu": 700_000.0, "cpu_package_0": 200_000.0} if rank < 3 else {}
            sums = {"energy_j": energy_j, "by_source_j": by_source_j, "measured_s": 2700.0, "rested_s": 75.0}
            ledger.write(7200, values, {**sums, "unmeasured_s": 30.0}, 5.0)


def test_idle_gpus_lead_to_advice_on_the_page(run, tmp_path):
    idle = copy_run(run, tmp_path)
    for rank in range(4):
        sums = {"energy_j": 1.0, "by_source_j": {}, "measured_s": 60.0, "rested_s": 0.0, "unmeasured_s": 0.0}
        Ledger(idle, rank, 9, "n1").write(1, {"gpu_utilisation_percent": 31.0}, sums, 5.0)
    advice = "one would take about 1.3 x as long and cost 0.33 of it"
    assert advice in text_of(machine_section([], [], read_ledgers(idle), 1))
    assert advice not in text_of(machine_section([], [], read_ledgers(run), 1))


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\u202f", " ").split())


@pytest.fixture(scope="module")
def run(real_run, tmp_path_factory):
    """The real run, had it run on four A100, one of which has no power reading."""
    run = copy_run(real_run, tmp_path_factory.mktemp("machine"))
    rng = np.random.default_rng(5)
    records = list(run.read_metrics())
    for number, record in enumerate(records):
        if record["kind"] == "monitor":
            place = {name: record[name] for name in ("kind", "step", "time", "attempt")}
            records[number] = {**place, **sensors_at(record["step"], rng)}
        elif record.get("event") == "started":
            record |= {"device": "NVIDIA A100-SXM4-40GB", "world_size": 4}
    write_records(run, records)
    write_ledgers(run)
    tell(run, PaceChanged(level="warm", before="ok", reason="GPU 83.1 °C; monitor.thermal_limit_c 80 °C"), 5, 3)
    tell(run, MemoryShort(reason="3.10 of 503.0 GiB available"), 5, 3)
    return run


def section(run: RunDir) -> str:
    history = read_history(run)
    return machine_section(history.monitor, history.events, read_ledgers(run), 1_000_000, "spectrum")


def test_the_energy_is_that_of_all_ranks_and_attempts(run):
    text = text_of(section(run))
    assert "2.25 kWh by GPUs and processors, over all ranks and attempts; 8.1 J per spectrum seen" in text
    assert "For 1 min 30 s there is no reading of the energy." in text


def test_the_page_has_the_section_the_energy_and_the_warnings(run):
    text = text_of(write_report(run).read_text())
    assert "Energy and heat" in text
    assert re.search(r"GPU-minutes, 2\.25 kWh", text)
    assert "MEMORY IS SHORT: 3.10 of 503.0 GiB available" in text


def test_what_slowed_the_run_down_is_said_with_the_reason(run):
    text = text_of(section(run))
    assert "Slowed down once, for the first time at step 5 (GPU 83.1 °C; monitor.thermal_limit_c 80 °C)" in text
    assert "It paused for 3 min 45 s in all" in text
    assert "rank 2 on gpu-node-08, attempt 2: hot: waits at step 9 (GPU 88.0 °C" in text


def test_every_rank_has_its_line_and_what_it_cannot_tell_is_a_dash(run):
    html = section(run)
    rows = [text_of(row) for row in re.findall(r"<tr>.*?</tr>", html)]
    assert len(rows) == 5
    assert re.fullmatch(
        r"0 gpu-node-07 9\d % 3\d\d W 6\d °C 12\.7 GiB 0 % by heat, 0 % by power 3 min 45 s 0\.75 kWh", rows[1]
    )
    assert rows[4].startswith("3 gpu-node-08")
    assert rows[4].endswith("–")
    assert "gpu_power_w: NVML: &lt;Not Supported&gt; (rank 3)" in html


def test_curves_break_between_attempts_and_show_the_pace_only_if_it_was_slowed(run):
    figures = dict(machine_figures(read_history(run).monitor))
    assert list(figures) == ["Power", "Temperature", "Utilisation", "Memory", "Pace"]
    power = re.search(r'class="line c1" data-name="GPU of rank 0" d="([^"]+)"', figures["Power"])[1]
    assert power.count("M") == 3  # three attempts
    straight = [record for record in read_history(run).monitor if record["pace"] == "ok"]
    assert "Pace" not in dict(machine_figures(straight))


def test_a_run_that_was_never_measured_has_no_section_and_one_without_power_says_so(real_run, tmp_path):
    bare = submitted(real_run, tmp_path)
    assert section(bare) == ""
    bare = begun(real_run, tmp_path / "begun", step=5)
    text = text_of(section(bare))
    assert "No energy was measured" in text
    page = text_of(write_report(bare).read_text())
    assert "kWh" not in page
