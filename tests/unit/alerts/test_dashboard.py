"""The dashboard for Grafana, and the numbers of the exporter: names, layout, and what promtool says of both."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml
from machines import Machine

from hpctrain.alerts.dashboard import dashboard_file
from hpctrain.cli import main
from hpctrain.metrics.events import AlertRaised, CheckpointSaved
from hpctrain.metrics.exporters.series import ALL, of_sensor
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir
from hpctrain.words import Metric, Words

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


@pytest.fixture
def dashboard(tmp_path):
    out = tmp_path / "dashboard.json"
    assert main(["monitor", "--dashboard", str(out)]) == 0
    assert out.read_text() == dashboard_file()
    return json.loads(out.read_text())


def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_only_for_metrics_that_the_exporter_has(dashboard):
    names = {name for expression in expressions(dashboard) for name in re.findall(r"hpctrain_\w+", expression)}
    assert names <= {each.name for each in ALL.values()}
    assert {"hpctrain_alert_active", "hpctrain_train_loss", "hpctrain_gpu_utilisation_ratio"} <= names


def test_panels_have_their_own_place_and_number_and_ask_the_source_that_a_user_chooses(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${source}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["source", "run"]


@needs_promtool
def test_promtool_can_read_every_expression_of_the_dashboard(dashboard, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$run", ".*")}
        for number, expression in enumerate(expressions(dashboard))
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_no_fault_in_the_names_units_and_helps_of_the_exporter(tmp_path):
    pytest.importorskip("prometheus_client")
    from hpctrain.metrics.exporters.prometheus import PrometheusExporter

    run = RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")
    machine = Machine(tmp_path / "machine", "agx-orin-64gb")
    Sampler(Sensors(machine.root), Governor(1.0), Ledger(run, 0, 1, "n0"), 5.0, lambda: 7).sample()
    words = Words("galaxy", "galaxies", metrics=(Metric("chi2", "mean chi²", "Chi-square per pixel"),))
    metrics = MetricsWriter(run, 1)
    metrics.subscribe(PrometheusExporter(run, "n0", str(tmp_path / "run.prom"), None, words, 500))
    for step in (7, 8):
        metrics.train(step, loss=1.5, samples_per_s=420.0, lr=1e-3, grad_norm=2.0, epoch=0.1, data_wait_share=0.1)
    metrics.evaluation(8, loss=2.5, chi2=1.25)
    metrics.event(CheckpointSaved.from_record({"bytes": 10}), 8)
    metrics.event(AlertRaised(alert="idle-gpu", severity="warning", text="used 2 %"), 8)
    metrics.monitor(8, gpu_power_w=1.0)
    metrics.close()
    text = (tmp_path / "run.prom").read_text()
    assert 'hpctrain_rail_power_watts{host="n0",rail="' in text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_sensor_with_a_unit_has_a_metric_in_base_units(tmp_path):
    found = Machine(tmp_path / "machine", "agx-orin-64gb")
    run = RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")
    values = {}
    Sampler(Sensors(found.root), Governor(1.0), Ledger(run, 0, 1, "n0"), 5.0, lambda: 7, values.update).sample()
    without = {name for name in values if of_sensor(name) is None}
    assert without == {"pace", "power_mode"}
    gpu, labels = of_sensor("gpu_memory_used_gib")
    assert (gpu.name, gpu.factor, labels) == ("hpctrain_gpu_memory_used_bytes", 2.0**30, {})
    rail, labels = of_sensor("rail_vdd_in_w")
    assert (rail.name, labels) == ("hpctrain_rail_power_watts", {"rail": "vdd_in"})
