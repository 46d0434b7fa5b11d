"""Whole runs that suffer from the outside: they say so in log, status and webhook, once, and say when it is over."""

from __future__ import annotations

import http.server
import json
import signal
import sys
import threading

import numpy as np
import pytest
from kinds.spectra import tiny_file
from machines import Machine
from processes import wait_until

from hpctrain.errors import EXIT_REQUEUE
from hpctrain.launch.live import draw, read_frame
from hpctrain.launch.present import block
from hpctrain.launch.status import describe
from hpctrain.monitor.raised import read_raised
from hpctrain.monitor.sysfs import ROOT_VARIABLE

LOAD = "sys/class/devfreq/17000000.gpu/device/load"
QUICK = {"sample_interval_s": 0.05, "dwell_s": 0.0, "heartbeat_s": 0.1, "hang_timeout_s": 600.0}
CALM = {"check_every_s": 0.1, "idle_gpu_s": 0.3}
ALERTS = {**CALM, "no_progress_s": 0.5}


class Hearer(http.server.ThreadingHTTPServer):
    """A web server that keeps what is posted to it, and answers the first post with an error."""

    def __init__(self):
        self.posted: list[dict] = []
        self.tries = 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def said(self, alert, state):
        return [message for message in self.posted if (message["alert"], message["state"]) == (alert, state)]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tries += 1
        if self.server.tries == 1:
            self.send_error(503)
            return
        self.server.posted.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def hearer():
    server = Hearer()
    yield server
    server.shutdown()
    server.server_close()


def events(run, name):
    return [record for record in run.read_metrics("event") if record["event"] == name]


def raised(run):
    return {one.alert for one in read_raised(run)}


@pytest.mark.slow
def test_a_run_that_suffers_says_so_everywhere_once_and_says_when_it_is_over(
    make_run, start, tmp_path, hearer, monkeypatch
):
    import h5py

    data = tiny_file(tmp_path / "data.h5", num=200)
    with h5py.File(data, "r+") as file:
        file["flux"][17] = 1e3 * np.sign(np.sin(np.arange(64)))  # one spectrum that no network describes
    monkeypatch.setenv(
        "HPCTRAIN_ALERT_WEBHOOK", f"http://127.0.0.1:{hearer.server_address[1]}/services/T0/B0/secret-word"
    )
    heard = tmp_path / "heard.jsonl"
    program = (
        "import os, sys; open(sys.argv[1], 'a').write(os.environ['HPCTRAIN_ALERT_STATE'] + ' ' + sys.stdin.read())"
    )
    alerts = {**ALERTS, "command": [sys.executable, "-S", "-c", program, str(heard)]}
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    run = make_run(
        data={"files": [str(data)]},
        train={"epochs": 100000, "batch_size": 4, "evaluate_every_steps": 100000},
        checkpoint={"every_steps": 2000},
        monitor={**QUICK, "alerts": alerts},
    )
    ranks = start(run, 2, **{ROOT_VARIABLE: str(machine.root)})

    wait_until(lambda: hearer.said("loss-spike", "raised"), "the spike", 60)
    machine.write(LOAD, "4")  # of 1000
    wait_until(lambda: hearer.said("idle-gpu", "raised"), "the idle GPU")
    machine.write(LOAD, "900")
    wait_until(lambda: hearer.said("idle-gpu", "cleared"), "the end of the idle GPU")
    ranks.signal(signal.SIGSTOP, [1])  # rank 0 now waits for it in a collective
    wait_until(lambda: hearer.said("no-progress", "raised"), "the stuck run")
    shown = block(describe(run))
    assert "alert           CRITICAL no-progress: no step for" in shown
    assert "warning loss-spike: the training loss was" in shown
    view = draw(read_frame(run)).renderables
    assert any("no-progress" in str(part) for part in view)
    ranks.signal(signal.SIGCONT, [1])
    wait_until(lambda: hearer.said("no-progress", "cleared"), "the end of the stuck run")
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [EXIT_REQUEUE] * 2

    found = [record["alert"] for record in events(run, "alert")]
    assert found.count("idle-gpu") == 1
    assert found.count("loss-spike") <= 3  # of hundreds of spikes
    assert set(found) == {"loss-spike", "idle-gpu", "no-progress"}
    assert ranks.stderr.count("ALERT no-progress: no step for") == found.count("no-progress")
    assert ranks.stderr.count("alert no-progress is over after") == found.count("no-progress")
    [message] = hearer.said("idle-gpu", "raised")
    assert message["text"].startswith("flow/run: ALERT idle-gpu: the GPU of rank ")
    assert (message["severity"], message["run_dir"], message["attempt"]) == ("warning", str(run.path), 1)
    assert [json.loads(line.split(" ", 1)[1])["alert"] for line in heard.read_text().splitlines()].count(
        "idle-gpu"
    ) == 2
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file()) + ranks.stderr.encode()
    assert b"secret-word" not in written
    assert "loss-spike" in raised(run)  # the next attempt knows it, and does not say it again


@pytest.mark.slow
def test_a_healthy_run_raises_nothing(make_run, start, tmp_path):
    machine = Machine(tmp_path / "orin", "agx-orin-64gb")
    run = make_run(train={"epochs": 100, "evaluate_every_steps": 10}, monitor={**QUICK, "alerts": CALM})
    ranks = start(run, 1, **{ROOT_VARIABLE: str(machine.root)})
    ranks.wait_for_step(50)
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [EXIT_REQUEUE]
    assert events(run, "alert") == []
    assert raised(run) == set()
    assert describe(run).alerts == []
