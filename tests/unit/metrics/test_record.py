import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from hpctrain.metrics.events import Best, CheckpointSaved, OverCurrent, Started
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.metrics.record import MetricsWriter, supersede_after
from hpctrain.rundir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "a_run")


def lines_of(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_each_record_is_one_whole_line_with_kind_step_time_and_attempt(run):
    writer = MetricsWriter(run, attempt=2)
    writer.train(7, loss=0.5, lr=1e-3)
    writer.evaluation(7, loss=0.6)
    writer.event(Started.from_record({"hosts": ["n1"]}), 7)
    writer.close()
    train, evaluation, event = lines_of(run)
    assert (train["kind"], train["step"], train["attempt"], train["loss"]) == ("train", 7, 2, 0.5)
    assert train["time"] == pytest.approx(os.stat(run.metrics).st_mtime, abs=5)
    assert (evaluation["kind"], evaluation["loss"]) == ("eval", 0.6)
    assert (event["kind"], event["event"], event["hosts"]) == ("event", "started", ["n1"])


def test_a_number_that_is_not_finite_becomes_null_and_is_named(run):
    """NaN is no JSON: a reader in another language would stop at the first diverged step."""
    writer = MetricsWriter(run, attempt=1)
    writer.train(1, loss=math.nan, grad_norm=np.float32(np.inf), parts={"kl": -math.inf}, lr=np.float64(0.25))
    (record,) = lines_of(run)
    assert (record["loss"], record["grad_norm"], record["parts"], record["lr"]) == (None, None, {"kl": None}, 0.25)
    assert record["nonfinite"] == ["loss", "grad_norm", "parts.kl"]
    assert "NaN" not in run.metrics.read_text()


def test_a_record_is_on_disk_when_the_call_returns(run):
    """kill -9 right after a record must not lose it."""
    code = (
        "import os, signal, sys\n"
        "from hpctrain.metrics.record import MetricsWriter\n"
        "from hpctrain.rundir import RunDir\n"
        "writer = MetricsWriter(RunDir(sys.argv[1]), 1)\n"
        "writer.train(41, loss=1.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(run.path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [record["step"] for record in lines_of(run)] == [41]


def test_threads_never_interleave_their_lines(run):
    writer = MetricsWriter(run, attempt=1)
    filler = "x" * 5000

    def write(first):
        for step in range(first, first + 200):
            writer.event(OverCurrent(what=filler), step)

    threads = [threading.Thread(target=write, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines_of(run)) == 800


def test_a_torn_last_line_of_a_killed_writer_does_not_swallow_the_next_record(run):
    run.metrics.write_text('{"kind":"train","step":1,"time":1.0}\n{"kind":"train","ste')
    MetricsWriter(run, attempt=2).train(2, loss=0.1)
    assert [record["step"] for record in run.read_metrics()] == [1, 2]


def test_an_exporter_that_fails_is_dropped_and_the_run_goes_on(run, caplog):
    seen = []

    class Fragile(Exporter):
        def __call__(self, record):
            raise OSError("no space left")

    class Sound(Exporter):
        def __call__(self, record):
            seen.append(record)

    writer = MetricsWriter(run, attempt=1)
    writer.subscribe(Fragile())
    writer.subscribe(Sound())
    writer.train(1, loss=1.0)
    writer.train(2, loss=0.9)
    writer.close()
    events = [record for record in lines_of(run) if record["kind"] == "event"]
    assert [(event["event"], event["exporter"]) for event in events] == [("exporter_failed", "Fragile")]
    assert [record["step"] for record in seen if record["kind"] == "train"] == [1, 2]
    assert caplog.text.count("Fragile failed") == 1


def test_figures_and_histograms_are_made_once_and_only_for_exporters_that_take_them(run):
    class Gallery(Exporter):
        takes_figures = True

        def __init__(self):
            self.shown = []

        def __call__(self, record):
            pass

        def figure(self, step, name, figure):
            self.shown.append((step, name, figure))

    drawn = []

    def draw():
        drawn.append(1)
        yield "reconstruction/0", "a figure"

    writer = MetricsWriter(run, attempt=1)
    writer.figures(5, draw)
    assert drawn == []
    galleries = [Gallery(), Gallery()]
    for gallery in galleries:
        writer.subscribe(gallery)
    writer.figures(10, draw)
    writer.histograms(10, lambda: pytest.fail("nobody takes histograms"))
    assert drawn == [1]
    assert [gallery.shown for gallery in galleries] == [[(10, "reconstruction/0", "a figure")]] * 2


def test_a_drawing_that_fails_costs_the_figures_and_no_exporter(run, caplog):
    class Gallery(Exporter):
        takes_figures = True
        records = 0

        def __call__(self, record):
            self.records += record["kind"] == "train"

    gallery = Gallery()
    writer = MetricsWriter(run, attempt=1)
    writer.subscribe(gallery)
    for step in (1, 2):
        writer.figures(step, lambda: [1 / 0])
        writer.train(step, loss=1.0)
    writer.close()
    assert gallery.records == 2
    failed = [record for record in lines_of(run) if record["kind"] == "event"]
    assert [(event["event"], event["exporter"], event["step"]) for event in failed] == [
        ("exporter_failed", "figures", 1)
    ]
    assert caplog.text.count("figures failed and are off") == 1


def test_a_full_disk_costs_records_never_the_run(run, caplog):
    """The limit on file size plays the full disk: a write comes back short, then fails."""
    writer = MetricsWriter(run, attempt=1)
    writer.train(1, loss=1.0)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run.metrics.stat().st_size + 20, hard))
        writer.train(2, loss=0.9)
        writer.train(3, loss=0.8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_handler)
    writer.train(4, loss=0.7)
    records = list(run.read_metrics())
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 4]
    assert [record["records"] for record in records if record.get("event") == "records_lost"] == [2]
    assert caplog.text.count("a record was lost") == 1


def test_superseded_records_move_away_and_events_stay(run):
    writer = MetricsWriter(run, attempt=1)
    for step in (10, 20, 30):
        writer.train(step, loss=1.0)
    writer.evaluation(30, loss=1.0)
    writer.event(CheckpointSaved.from_record({}), 30)
    writer.monitor(30, gpu_power_w=250.0)  # the energy has been used, whatever becomes of the updates
    writer.close()
    with open(run.metrics, "a") as stream:
        stream.write('{"kind":"tra')
    assert supersede_after(run, 20) == (2, 30)
    kept = [("train", 10), ("train", 20), ("event", 30), ("monitor", 30)]
    assert [(r["kind"], r["step"]) for r in lines_of(run)] == kept
    history = read_history(run)
    assert [r["gpu_power_w"] for r in history.monitor] == [250.0]
    assert [(r["kind"], r["step"]) for r in history.superseded] == [("train", 30), ("eval", 30)]
    assert supersede_after(run, 20).moved == 0


def test_a_writer_of_an_older_attempt_cannot_reach_the_file_after_a_resume(run):
    """A node that was cut off may live on and write; its records must not stand among the new ones."""
    old = MetricsWriter(run, attempt=1)
    old.train(10, loss=1.0)
    supersede_after(run, 10)
    MetricsWriter(run, attempt=2).train(20, loss=0.5)
    old.train(20, loss=9.0)
    assert [(r["step"], r["loss"]) for r in lines_of(run)] == [(10, 1.0), (20, 0.5)]


def test_superseding_an_absent_file_is_nothing(run):
    assert supersede_after(run, 5).moved == 0
    assert not run.metrics.exists()


def test_history_puts_records_of_an_outdated_attempt_aside(run):
    MetricsWriter(run, attempt=2).train(20, loss=0.5)
    MetricsWriter(run, attempt=1).train(25, loss=9.0)
    history = read_history(run)
    assert [r["step"] for r in history.train] == [20]
    assert [r["step"] for r in history.superseded] == [25]


def test_history_of_nothing_is_empty(run):
    history = read_history(run)
    assert (history.step, history.events, history.newest(Started)) == (0, [], None)
    assert history.best_evaluation(Objective()) is None


def test_the_best_evaluation_of_a_lost_step_is_not_kept(run):
    """Its record moves away, and the event ``best`` stays."""
    writer = MetricsWriter(run, attempt=1)
    writer.train(4, loss=1.0)
    writer.evaluation(5, loss=0.5)
    writer.event(Best(value={"loss": 0.5}), 5)
    writer.close()
    supersede_after(run, 4)
    history = read_history(run)
    assert [record["step"] for record in history.superseded] == [5]
    assert history.evaluations == []
    assert history.best_evaluation(Objective()) is None


def test_best_evaluation_is_that_of_the_objective_and_passes_over_values_that_are_not_finite(run):
    writer = MetricsWriter(run, attempt=1)
    for step, loss, f1 in ((1, 0.7, 0.2), (2, math.nan, math.nan), (3, 0.4, 0.5), (4, 0.5, 0.9)):
        writer.evaluation(step, loss=loss, f1=f1)
    history = read_history(run)
    assert history.best_evaluation(Objective())["step"] == 3
    assert history.best_evaluation(Objective("f1", lower_is_better=False))["step"] == 4
    assert history.best_evaluation(Objective("f1"))["step"] == 1
    assert history.best_evaluation(Objective("f2")) is None
