"""What Prometheus sees, read back with its own parser: from a file, and from a real port."""

from __future__ import annotations

import math
import socket
import urllib.request

import pytest
from machines import Machine

from hpctrain.errors import ProfileError
from hpctrain.metrics.events import CheckpointSaved
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.profile.check import check_profile
from hpctrain.rundir import RunDir
from hpctrain.words import Metric, Words

parser = pytest.importorskip("prometheus_client.parser")

WORDS = Words("galaxy", "galaxies", metrics=(Metric("chi2", "mean chi²", "Chi-square per pixel"),))


@pytest.fixture
def run(tmp_path):
    """A run of two ranks whose sensors have told something."""
    run = RunDir.create(tmp_path / "runs", "desi", "20261121-101500-abcd")
    for rank in (0, 1):
        machine = Machine(tmp_path / f"machine-{rank}", "agx-orin-64gb")
        machine.heat(60.0 + 30.0 * rank)
        Sampler(Sensors(machine.root), Governor(1.0), Ledger(run, rank, 1, f"node{rank}"), 5.0, lambda: 7).sample()
    return run


def families(text):
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def record_something(run, textfile=None, port=None):
    from hpctrain.metrics.exporters.prometheus import PrometheusExporter

    metrics = MetricsWriter(run, 1)
    metrics.subscribe(PrometheusExporter(run, "node0", textfile, port, WORDS))
    metrics.train(7, loss=1.5, samples_per_s=420.0, lr=1e-3, grad_norm=float("nan"))
    metrics.evaluation(7, loss=2.5, chi2=1.25)
    metrics.event(CheckpointSaved.from_record({"bytes": 10}), 7)
    metrics.monitor(7, gpu_power_w=1.0)
    return metrics


def test_the_file_for_node_exporter_holds_the_run_and_all_its_ranks(run, tmp_path):
    metrics = record_something(run, textfile=str(tmp_path / "textfile" / "hpctrain-%r.prom"))
    path = tmp_path / "textfile" / "hpctrain-desi-20261121-101500-abcd.prom"
    found = families(path.read_text())
    [loss] = found["hpctrain_train_loss"].samples
    assert (loss.value, loss.labels) == (1.5, {"run": "desi/20261121-101500-abcd", "host": "node0"})
    assert found["hpctrain_step"].samples[0].value == 7
    assert found["hpctrain_validation_chi2"].samples[0].value == 1.25
    assert found["hpctrain_validation_chi2"].documentation == "Chi-square per pixel on the held-out galaxies."
    assert found["hpctrain_train_samples_per_second"].documentation == "Galaxies per second, all ranks."
    assert found["hpctrain_checkpoint_timestamp_seconds"].samples[0].value > 1.7e9
    levels = {sample.labels["rank"]: sample for sample in found["hpctrain_pace_level"].samples}
    assert {rank: sample.value for rank, sample in levels.items()} == {"0": 0.0, "1": 1.0}
    assert levels["1"].labels["host"] == "node1"
    temperatures = {
        sample.labels["rank"]: sample.value
        for sample in found["hpctrain_temperature_celsius"].samples
        if sample.labels["zone"] == "tj"
    }
    assert temperatures == {"0": 60.0, "1": 90.0}
    assert math.isnan(found["hpctrain_train_gradient_norm"].samples[0].value)
    assert path.stat().st_mode & 0o444 == 0o444
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    metrics.close()


def test_a_real_port_can_be_scraped_while_the_run_trains_and_is_given_back(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    metrics = record_something(run, port=port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=600) as answer:
        found = families(answer.read().decode())
    assert found["hpctrain_train_samples_per_second"].samples[0].value == 420.0
    assert len(found["hpctrain_board_power_watts"].samples) == 2
    metrics.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_a_file_that_cannot_be_written_costs_the_exporter_and_not_the_run(run, tmp_path):
    (tmp_path / "taken").write_text("a file, where a folder should be")
    metrics = record_something(run, textfile=str(tmp_path / "taken" / "hpctrain.prom"))
    metrics.train(8, loss=1.0)
    metrics.close()
    failed = [record for record in run.read_metrics("event") if record["event"] == "exporter_failed"]
    assert len(failed) == 1
    assert len(list(run.read_metrics("train"))) == 2


def test_a_file_that_node_exporter_would_not_read_is_refused_before_it_queues(tmp_path):
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "name: a\ndata: {files: [a.h5], simulate: {}}\nlaunch: {gpus_per_node: 0}\n"
        "monitor:\n  prometheus_textfile: /var/lib/x.txt\n  thermal_limit_c: 35\n"
    )
    findings = check_profile(profile, memory=False)
    with pytest.raises(ProfileError, match=r"line 5: monitor.prometheus_textfile: '/var/lib/x.txt' must end in \.prom"):
        findings.raise_problems()
    assert any("35 °C is what an idle GPU may have" in str(warning) for warning in findings.warnings)
