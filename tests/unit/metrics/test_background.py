"""An exporter behind a queue never delays the run, whether it is slow, stuck or broken."""

from __future__ import annotations

import threading

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from processes import wait_until

from hpctrain.metrics.exporters.background import InBackground
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.metrics.exporters.folder import FigureFolder, figures_of
from hpctrain.metrics.record import MetricsWriter
from hpctrain.rundir import RunDir


class Gate(Exporter):
    """Takes figures one after the other, each only after `opens` is set."""

    takes_figures = True

    def __init__(self):
        self.opens, self.entered, self.taken, self.is_closed = threading.Event(), threading.Event(), [], False

    def __call__(self, record):
        self.taken.append(record["step"])

    def figure(self, step, name, figure):
        self.entered.set()
        self.opens.wait()
        self.taken.append(step)

    def close(self):
        self.is_closed = True


def test_what_finds_the_queue_full_is_dropped_and_counted_once_in_the_log(caplog):
    gate = Gate()
    exporter = InBackground(gate, capacity=3)
    exporter.figure(0, "a", None)
    gate.entered.wait()
    for step in range(1, 9):
        exporter.figure(step, "a", None)
    gate.opens.set()
    exporter.close()
    assert gate.taken == [0, 1, 2, 3]
    assert gate.is_closed
    assert caplog.text.count("Gate was too slow: 5 calls dropped") == 1


def test_an_exporter_that_is_stuck_does_not_keep_the_run_from_ending(caplog):
    gate = Gate()
    exporter = InBackground(gate, close_s=0.05)
    exporter.figure(0, "a", None)
    gate.entered.wait()
    exporter.figure(1, "a", None)
    exporter.close()
    assert gate.taken == []
    assert "Gate was too slow: 1 calls dropped" in caplog.text
    gate.opens.set()


def test_a_folder_that_cannot_be_written_costs_the_figures_and_not_the_run(tmp_path):
    run = RunDir.create(tmp_path, "a_run")
    run.figures.write_text("a file, where the folder should be")
    writer = MetricsWriter(run, 1)
    exporter = InBackground(FigureFolder(run))
    writer.subscribe(exporter)
    writer.figures(10, lambda: [("reconstruction/0", Figure())])
    wait_until(lambda: exporter._error is not None)
    writer.train(11, loss=1.0)
    writer.train(12, loss=1.0)
    writer.close()
    assert [record["step"] for record in run.read_metrics("train")] == [11, 12]
    assert [record["event"] for record in run.read_metrics("event")] == ["exporter_failed"]


def test_figures_are_whole_files_that_a_tracker_finds_by_name_and_step(tmp_path):
    run = RunDir.create(tmp_path, "a_run")
    writer = MetricsWriter(run, 1)
    writer.subscribe(InBackground(FigureFolder(run)))
    for step in (20, 10):
        figures = [(f"reconstruction/{row}", Figure(figsize=(1, 1), dpi=50)) for row in (0, 1)]
        writer.figures(step, lambda figures=figures: figures)
    writer.close()
    found = [(name, step) for name, step, _ in figures_of(run)]
    assert found == [(f"reconstruction/{row}", step) for row in (0, 1) for step in (10, 20)]
    assert all(imread(path).shape[:2] == (50, 50) for _, _, path in figures_of(run))


def test_a_figure_folder_that_is_absent_holds_no_figure(tmp_path):
    assert list(figures_of(RunDir(tmp_path / "none"))) == []


@pytest.mark.parametrize("name", ["step-12.png", "step-00000010.png.tmp", "other.png"])
def test_other_files_are_no_figures(tmp_path, name):
    run = RunDir.create(tmp_path, "a_run")
    (run.figures / "a").mkdir(parents=True)
    (run.figures / "a" / name).write_bytes(b"")
    assert list(figures_of(run)) == []
