import io
import os
import pty
import re
import select
from pathlib import Path

import pytest

from hpctrain.metrics.exporters.progress import ProgressLine
from hpctrain.profile.lookup import words_of_file
from hpctrain.words import Metric, Words

SPECTRA = words_of_file(Path(__file__).parents[3] / "profiles" / "quickstart.yaml")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def train_record(step, loss=0.53, **fields):
    values = {"lr": 9.8e-4, "grad_norm": 1.25, "samples_per_s": 12345.6, "epoch": step / 180, **fields}
    return {"kind": "train", "step": step, "time": 0.0, "attempt": 1, "loss": loss, **values}


@pytest.fixture
def terminal(monkeypatch):
    """A real pseudo-terminal: (stream to write to, function that returns what was written)."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, follower = pty.openpty()
    stream = os.fdopen(follower, "w")

    def written():
        chunks = []
        while select.select([leader], [], [], 0.05)[0]:
            chunks.append(os.read(leader, 1 << 16))
        return b"".join(chunks).decode()

    yield stream, written
    stream.close()
    os.close(leader)


def test_a_log_gets_a_plain_line_every_ten_seconds_not_each_step():
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLine(18_000, SPECTRA, stream, clock)
    for step in range(1, 101):
        clock.now += 0.5
        progress(train_record(step))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  step    81/18000 \(0\.5 %\)  epoch 0\.45  loss 0\.53  lr 9\.80e-04  "
        r"grad 1\.25  12\.3k spectra/s  2 h 29 min left",
        lines[-1],
    )


def test_a_log_gets_evaluations_and_events_at_once():
    stream = io.StringIO()
    progress = ProgressLine(100, SPECTRA, stream, Clock())
    progress({"kind": "event", "event": "checkpoint", "step": 50, "time": 0.0, "bytes": 162_000_000, "seconds": 0.9})
    progress({"kind": "eval", "step": 50, "time": 0.0, "loss": 0.5, "chi2": 1.01, "num_spectra": 1200, "seconds": 2.0})
    checkpoint, evaluation = (line[21:] for line in stream.getvalue().splitlines())
    assert checkpoint == "checkpoint at step 50, 162 MB in 0.9 s"
    assert evaluation == "validation at step 50  loss 0.5  mean chi² 1.01  1.2k spectra in 2 s"


def test_the_last_step_is_always_shown():
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLine(3, SPECTRA, stream, clock)
    for step in (1, 2, 3):
        progress(train_record(step))
    assert "step 3/3 (100.0 %)" in stream.getvalue()


def test_a_terminal_gets_one_line_redrawn_at_most_four_times_a_second(terminal):
    stream, written = terminal
    clock = Clock()
    progress = ProgressLine(1000, SPECTRA, stream, clock)
    for step in range(1, 101):
        clock.now += 0.01
        progress(train_record(step))
    progress.close()
    text = written()
    assert 4 <= text.count("\x1b[K") <= 6
    assert text.count("\n") == 1
    assert "loss 0.53" in text


def test_events_stand_above_the_live_line(terminal):
    stream, written = terminal
    progress = ProgressLine(1000, SPECTRA, stream, Clock())
    progress(train_record(1))
    progress.message("checkpoint at step 1")
    progress.close()
    assert re.search(r"checkpoint at step 1\r?\n\r.*step    1/1000", written())


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 200])
def test_the_live_line_never_wraps(monkeypatch, terminal, columns):
    stream, _ = terminal
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    progress = ProgressLine(18_000, SPECTRA, stream, clock)
    progress({"kind": "eval", "step": 1, "time": 0.0, "loss": 0.5})
    for step in (1, 2000):
        clock.now += 100
        progress(train_record(step, memory_gib=11.5))
    line = progress._live_line(columns)
    assert len(line) < columns
    assert "step  2000" in line


def test_no_color_is_respected(monkeypatch, terminal):
    stream, written = terminal
    monkeypatch.setenv("NO_COLOR", "1")
    progress = ProgressLine(10, SPECTRA, stream, Clock())
    progress(train_record(1))
    assert "\x1b[3" not in written()


def test_a_loss_that_is_not_finite_is_said():
    stream = io.StringIO()
    ProgressLine(10, SPECTRA, stream, Clock())(train_record(1, loss=None))
    assert "loss not finite" in stream.getvalue()


def test_a_family_says_what_its_samples_and_metrics_are_called():
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLine(100, Words("galaxy", "galaxies", metrics=(Metric("f1", "F1", "F1 score"),)), stream, clock)
    progress({"kind": "eval", "step": 50, "time": 0.0, "loss": 0.5, "chi2": 1.0, "f1": 0.875, "num_galaxies": 12})
    progress(train_record(50))
    evaluation, line = (line[21:] for line in stream.getvalue().splitlines())
    assert evaluation == "validation at step 50  loss 0.5  F1 0.875  12 galaxies"
    assert "12.3k galaxies/s" in line
