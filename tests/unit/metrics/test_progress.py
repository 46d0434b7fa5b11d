import io
import os
import pty
import re
import select

import pytest

from hpctrain.metrics.exporters.progress import ProgressLine
from hpctrain.metrics.progress import _EVENT_TEXTS, describe_event, format_bytes, format_count, format_duration


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (18420, "5 h 07 min"), (183600, "2 d 03 h"), (-4, "0 s")],
)
def test_durations_have_two_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(7.254, "7.25"), (842, "842"), (12345, "12.3k"), (999.9, "1k"), (4.1e6, "4.1M"), (0, "0")]
)
def test_counts_have_three_digits(value, text):
    assert format_count(value) == text


def test_sizes_are_decimal():
    assert [format_bytes(size) for size in (162e6, 512, 6.1e9)] == ["162 MB", "512 B", "6.1 GB"]


def test_a_log_gets_a_plain_line_every_ten_seconds_not_each_step():
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLine(18_000, stream, clock)
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
    progress = ProgressLine(100, stream, Clock())
    progress({"kind": "event", "event": "checkpoint", "step": 50, "time": 0.0, "bytes": 162e6, "seconds": 0.9})
    progress({"kind": "eval", "step": 50, "time": 0.0, "loss": 0.5, "chi2": 1.01, "num_spectra": 1200, "seconds": 2.0})
    checkpoint, evaluation = (line[21:] for line in stream.getvalue().splitlines())
    assert checkpoint == "checkpoint at step 50, 162 MB in 0.9 s"
    assert evaluation == "validation at step 50  loss 0.5  mean chi² 1.01  1.2k spectra in 2 s"


def test_the_last_step_is_always_shown():
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLine(3, stream, clock)
    for step in (1, 2, 3):
        progress(train_record(step))
    assert "step 3/3 (100.0 %)" in stream.getvalue()


def test_a_terminal_gets_one_line_redrawn_at_most_four_times_a_second(terminal):
    stream, written = terminal
    clock = Clock()
    progress = ProgressLine(1000, stream, clock)
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
    progress = ProgressLine(1000, stream, Clock())
    progress(train_record(1))
    progress.message("checkpoint at step 1")
    progress.close()
    assert re.search(r"checkpoint at step 1\r?\n\r.*step    1/1000", written())


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 200])
def test_the_live_line_never_wraps(monkeypatch, terminal, columns):
    stream, _ = terminal
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    progress = ProgressLine(18_000, stream, clock)
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
    progress = ProgressLine(10, stream, Clock())
    progress(train_record(1))
    assert "\x1b[3" not in written()


def test_a_loss_that_is_not_finite_is_said():
    stream = io.StringIO()
    ProgressLine(10, stream, Clock())(train_record(1, loss=None))
    assert "loss not finite" in stream.getvalue()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            {"event": "started", "attempt": 2, "world_size": 4, "device": "NVIDIA A100", "hosts": "n[1-2]",
             "start_step": 1200, "total_steps": 9000},
            "attempt 2 started at step 1200 of 9000: 4 × NVIDIA A100 on n[1-2]",
        ),
        ({"event": "resumed", "checkpoint": "checkpoints/step-00001200", "steps_lost": 40},
         "resumed from checkpoints/step-00001200; 40 steps are done again"),
        ({"event": "checkpoint_rejected", "path": "p", "reason": "torn"}, "checkpoint p rejected: torn"),
        ({"event": "stopped", "cause": "SIGTERM", "exit_code": 75}, "stopped at step 9 (SIGTERM), exit code 75"),
        ({"event": "finished", "seconds": 61}, "finished at step 9 after 1 min 01 s"),
        ({"event": "something_new", "size": 3}, "something new at step 9: size 3"),
        ({"event": "something_new"}, "something new at step 9"),
    ],
)  # fmt: skip
def test_events_are_told_in_words(event, text):
    assert describe_event({"kind": "event", "step": 9, "time": 0.0, "attempt": 1, **event}) == text


@pytest.mark.parametrize("name", sorted(_EVENT_TEXTS))
def test_an_event_without_its_fields_is_still_told(name):
    assert describe_event({"kind": "event", "event": name, "step": 9, "time": 0.0})
