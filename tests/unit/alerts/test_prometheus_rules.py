"""The rules for Prometheus, put to its own promtool: they are valid, and fire on series that suffer alone."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from hpctrain.alerts.prometheus_rules import rules_file, title_of
from hpctrain.alerts.rules import RULES
from hpctrain.cli import main
from hpctrain.metrics.exporters.series import series
from hpctrain.profile.sections.alerts import AlertsSection

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)
RUN = 'run="a/1",host="n1"'
RANK = 'run="a/1",rank="0",host="n1"'
TRAINS = {f"hpctrain_training{{{RUN}}}": "1x60"}
HEALTHY = {
    **TRAINS,
    f"hpctrain_step{{{RUN}}}": "0+100x60",
    f"hpctrain_step_timestamp_seconds{{{RUN}}}": "0+60x60",
    f"hpctrain_sample_timestamp_seconds{{{RANK}}}": "0+60x60",
    f"hpctrain_checkpoint_step{{{RUN}}}": "0+100x60",
    f"hpctrain_checkpoint_every_steps{{{RUN}}}": "1000x60",
    f"hpctrain_gpu_utilisation_ratio{{{RANK}}}": "0.9x60",
    f"hpctrain_gpu_throttled_by_heat{{{RANK}}}": "0x60",
    f"hpctrain_pace_level{{{RANK}}}": "0x60",
    f"hpctrain_failed{{{RUN}}}": "0x60",
    **{
        f'hpctrain_alert_active{{{RUN},alert="{rule.name}",severity="{rule.severity}"}}': "0x60"
        for rule in RULES
        if not rule.of_job
    },
}
SUFFERING = {
    "idle-gpu": {f"hpctrain_gpu_utilisation_ratio{{{RANK}}}": "0.02x60"},
    "too-hot": {f"hpctrain_gpu_throttled_by_heat{{{RANK}}}": "1x60"},
    "checkpoint-late": {f"hpctrain_checkpoint_step{{{RUN}}}": "0x60"},
    "silent": {f"hpctrain_sample_timestamp_seconds{{{RANK}}}": "0+60x20 1200x39"},
    "run-ended-badly": {f"hpctrain_failed{{{RUN}}}": "0x20 1x39", f"hpctrain_training{{{RUN}}}": "1x20 0x39"},
}
MORE = "`hpctrain status` of the run says more."


def test_each_alert_is_a_rule_and_the_limits_of_a_site_are_in_it():
    limits = AlertsSection(idle_gpu_percent=25.0, idle_gpu_s=1200.0, off=["metric-worse"])
    [group] = yaml.safe_load(rules_file(limits))["groups"]
    assert [rule["labels"]["alert"] for rule in group["rules"]] == [r.name for r in RULES if r.name != "metric-worse"]
    assert "[1200s]) < 0.25" in group["rules"][0]["expr"]


def test_the_command_writes_rules_with_the_limits_of_a_site(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("alerts:\n  silent_s: 77.0\n")
    out = tmp_path / "rules.yaml"
    assert main(["monitor", "--rules", str(out), "--site", "mine"]) == 0
    assert "> 77 and" in out.read_text()
    assert "promtool check rules" in capsys.readouterr().out
    assert main(["monitor", "--rules", str(tmp_path / "none" / "rules.yaml")]) == 2


@needs_promtool
def test_promtool_finds_no_fault_in_the_rules(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(rules_file(AlertsSection(off=[])))
    done = subprocess.run(["promtool", "check", "rules", "--lint-fatal", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def case(name, changed, fires):
    """Return a test of promtool: at 50 minutes, which rules fire for these series."""
    values = {**HEALTHY, **changed}
    checks = []
    for rule in RULES:
        said = {"summary": f"a/1: {rule.meaning[:-1]}", "description": f"{rule.meaning} {MORE}"}
        expected = [{"exp_labels": labels, "exp_annotations": said} for labels in fires.get(rule.name, [])]
        check = {"eval_time": "50m", "alertname": title_of(rule)}
        checks.append(check if not expected else {**check, "exp_alerts": expected})
    inputs = [{"series": key, "values": value} for key, value in values.items()]
    return {"name": name, "interval": "1m", "input_series": inputs, "alert_rule_test": checks}


def labels_of(rule, key=None):
    """Return the labels of an alert: those of the series, and those of the rule."""
    of_series = {
        None: {"run": "a/1"},
        "run": {"run": "a/1", "host": "n1"},
        "rank": {"run": "a/1", "rank": "0", "host": "n1"},
    }
    return {**of_series[key], "alert": rule.name, "severity": rule.severity}


KEYS = {"idle-gpu": "rank", "too-hot": "rank", "checkpoint-late": "run", "silent": None, "run-ended-badly": None}


@needs_promtool
def test_every_rule_fires_on_series_that_suffer_and_none_on_healthy_ones(tmp_path):
    cases = [case("healthy", {}, {})]
    for rule in RULES:
        if not rule.of_job:
            active = f'hpctrain_alert_active{{{RUN},alert="{rule.name}",severity="{rule.severity}"}}'
            cases.append(case(f"{rule.name} raised", {active: "0x10 1x49"}, {rule.name: [labels_of(rule, "run")]}))
        if rule.name in SUFFERING:
            fires = {rule.name: [labels_of(rule, KEYS[rule.name])]}
            cases.append(case(f"{rule.name} in the numbers", SUFFERING[rule.name], fires))
    ended = {key: f"{value.split('x')[0]}x20 _x39" for key, value in HEALTHY.items()}
    done_training = {
        f"hpctrain_training{{{RUN}}}": "1x20 0x39",
        f"hpctrain_sample_timestamp_seconds{{{RANK}}}": "1200x60",
    }
    cases += [case("gone", ended, {}), case("finished", done_training, {})]
    (tmp_path / "rules.yaml").write_text(rules_file(AlertsSection()))
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_series_of_this_test_are_those_of_the_exporter():
    assert {key.partition("{")[0] for key in HEALTHY} <= {
        series(name)
        for name in (
            "training", "step", "step_timestamp_seconds", "sample_timestamp_seconds", "checkpoint_step",
            "checkpoint_every_steps", "gpu_utilisation_ratio", "gpu_throttled_by_heat", "pace_level", "failed",
            "alert_active",
        )
    }  # fmt: skip
