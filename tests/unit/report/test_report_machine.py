"""Energy and heat on the page: sums over ranks and attempts, what was slowed down, and what nobody could measure."""

from __future__ import annotations

import json
import re

import pytest
from run_on_disk import START, Recorder, record_training, write_ledgers, write_run, write_submission

from hpctrain.metrics.read import read_history
from hpctrain.monitor.ledger import read_ledgers
from hpctrain.report.machine import machine_figures, machine_section
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\u202f", " ").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("machine"), results=False)
    short = {"kind": "event", "event": "memory_short", "step": 5100, "time": START + 1800, "attempt": 1}
    with open(run.metrics, "a") as stream:
        stream.write(json.dumps({**short, "reason": "3.10 of 503.0 GiB available"}) + "\n")
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
    assert re.search(r"GPU-hours, 2\.25 kWh", text)
    assert "MEMORY IS SHORT: 3.10 of 503.0 GiB available" in text


def test_what_slowed_the_run_down_is_said_with_the_reason(run):
    text = text_of(section(run))
    assert "Slowed down once, for the first time at step 5050 (GPU 83.1 °C; monitor.thermal_limit_c 80 °C)" in text
    assert "It paused for 3 min 45 s in all" in text
    assert "rank 2 on gpu-node-08, attempt 2: hot: waits at step 9000 (GPU 88.0 °C" in text


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


def test_a_run_that_was_never_measured_has_no_section_and_one_without_power_says_so(tmp_path):
    bare = RunDir(tmp_path / "desi_vae" / "20261117-101640-aaaa")
    write_submission(bare)
    assert section(bare) == ""
    record_training(Recorder(bare, 1, START), 0, 200)
    write_ledgers(bare, num_ranks=0)
    text = text_of(section(bare))
    assert "No energy was measured" in text
    page = text_of(write_report(bare).read_text())
    assert "kWh" not in page
