"""Loops of an export that take minutes show how far they are; short ones and machines that read the output do not."""

from __future__ import annotations

import io

from hpctrain.edge.progress import SILENT, Progress


class Clock:
    def __init__(self, step_s):
        self.now_s, self._step_s = 0.0, step_s

    def __call__(self):
        self.now_s += self._step_s
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(step_s, total):
    stream = io.StringIO()
    assert list(Progress(stream, Clock(step_s)).track(range(total), "encoding", total)) == list(range(total))
    return stream.getvalue().splitlines()


def test_a_long_loop_says_every_ten_seconds_how_far_it_is_and_how_long_it_still_takes():
    lines = lines_of(step_s=4.0, total=10)
    assert lines == [f"  encoding: {share} %, about {left} s left".replace(" %", "%") for share, left in
                     ((30, 28), (60, 16), (90, 4))]  # fmt: skip


def test_a_short_loop_says_nothing():
    assert lines_of(step_s=0.1, total=50) == []


def test_on_a_terminal_a_bar_is_drawn():
    stream = Terminal()
    assert list(Progress(stream).track(range(3), "encoding", 3)) == [0, 1, 2]
    assert "encoding" in stream.getvalue()


def test_nothing_is_shown_where_nobody_asked():
    assert list(SILENT.track(iter("abc"), "encoding", 3)) == list("abc")
    SILENT("a line")
