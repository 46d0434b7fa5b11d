"""Where alerts are shown: status, list, report, and the numbers for Prometheus; and what a site sets."""

from __future__ import annotations

import time

import pytest
import yaml

from hpctrain.cli import main
from hpctrain.launch.submit import with_site_alerts
from hpctrain.metrics.events import AlertCleared, AlertRaised
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.raised import OF_JOB, OF_TRAINER, Raised, write_raised
from hpctrain.profile.families import profile_class
from hpctrain.profile.site import Site
from hpctrain.report.alerts import STILL, alerts_section, list_alerts
from hpctrain.report.gather import gather_facts
from hpctrain.rundir import RunDir, write_json

IDLE = AlertRaised(alert="idle-gpu", severity="warning", text="used <2 %", value=2.0)


@pytest.fixture
def run(tmp_path):
    """A run that goes on, with an alert on record that is over, the same one again, and one from outside."""
    run = RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")
    run.profile.write_text(yaml.safe_dump({"name": "desi", "data": {"files": ["a.h5"]}}))
    metrics = MetricsWriter(run, 1)
    metrics.event(IDLE, 5)
    metrics.event(AlertCleared(alert="idle-gpu", text="used 90 %", seconds=700.0), 9)
    metrics.event(IDLE, 12)
    metrics.close()
    now_s = time.time()
    write_raised(run, OF_TRAINER, [Raised("idle-gpu", "warning", "used <2 %", now_s - 125, 12, 2.0)], {})
    write_raised(run, OF_JOB, [Raised("silent", "critical", "no sign of life", now_s - 61, 12)], {})
    beat = {"rank": 0, "attempt": 1, "time": now_s, "interval_s": 60.0, "state": "training", "step": 12, "host": "n7"}
    write_json(run.heartbeat(0), beat)
    return run


def test_status_has_a_line_for_each_alert_and_list_a_mark(run, capsys):
    assert main(["status", str(run.path)]) == 0
    shown = capsys.readouterr().out
    assert "alert           warning idle-gpu: used <2 % (2m05s ago)" in shown
    assert "alert           CRITICAL silent: no sign of life (1m01s ago)" in shown
    assert main(["list", "--runs-dir", str(run.path.parent.parent)]) == 0
    assert " running !2 " in capsys.readouterr().out
    assert main(["status", str(run.path), "--json"]) == 0
    assert '"alert": "silent"' in capsys.readouterr().out


def test_the_report_lists_what_is_over_and_what_is_not(run):
    facts = gather_facts(run)
    found = sorted((alert.name, alert.lasted) for alert in list_alerts(facts))
    assert found == [("idle-gpu", "11 min 40 s"), ("idle-gpu", STILL), ("silent", STILL)]
    page = alerts_section(facts)
    assert "used &lt;2 %" in page
    assert "11 min 40 s" in page
    assert STILL in page


def test_prometheus_sees_an_alert_from_its_beginning_to_its_end(run, tmp_path):
    parser = pytest.importorskip("prometheus_client.parser")
    from hpctrain.metrics.exporters.prometheus import PrometheusExporter

    path = tmp_path / "run.prom"
    exporter = PrometheusExporter(run, "n7", str(path), None)

    def active():
        exporter(IDLE.at(12, time.time(), 1).whole_record() | {"kind": "monitor"})
        families = {family.name: family for family in parser.text_string_to_metric_families(path.read_text())}
        return {sample.labels["alert"]: sample.value for sample in families["hpctrain_alert_active"].samples}

    assert active() == {"idle-gpu": 1.0}  # left by the attempt before
    exporter(AlertCleared(alert="idle-gpu", text="", seconds=1.0).at(13, time.time(), 1).whole_record())
    assert active() == {"idle-gpu": 0.0}
    exporter.close()


def test_a_profile_keeps_its_own_values_and_takes_the_others_from_the_site():
    values = {"name": "a", "data": {"files": ["a.h5"]}, "monitor": {"alerts": {"idle_gpu_s": 60.0}}}
    profile = profile_class().model_validate(values)
    site = Site.model_validate({"alerts": {"idle_gpu_s": 5.0, "command": ["/apps/tell", "%h"], "off": ["slow-steps"]}})
    merged = with_site_alerts(profile, site).monitor.alerts
    assert (merged.idle_gpu_s, merged.command, merged.off) == (60.0, ["/apps/tell", "%h"], ["slow-steps"])
    assert with_site_alerts(profile, None) is profile
