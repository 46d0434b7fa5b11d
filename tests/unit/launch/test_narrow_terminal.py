"""What the commands print on a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from hpctrain.cli import main
from hpctrain.rundir import RunDir, write_json
from hpctrain.terminal import folded, has_colours

LONG = "a-survey-of-quasars-behind-the-moon"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        run = RunDir.create(tmp_path / "runs", LONG, f"20261126-12000{number}-000{number}")
        write_json(run.job, {"cluster": "slurm", "submissions": [{"job_id": "1234567_8", "submitted_at": 1.79e9}]})
    return tmp_path / "runs"


def lines_on_terminal(monkeypatch, columns, *arguments):
    """Return the lines that a command writes to a terminal, without the sequences for colours."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    parts: list[bytes] = []

    def read() -> None:
        while True:
            try:
                parts.append(os.read(screen, 65536))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    with open(terminal, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "__stdout__", stream)  # shutil.get_terminal_size asks this one
        assert main(list(arguments)) == 0
    reader.join()
    os.close(screen)
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", b"".join(parts).decode()).replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [80, 180])
def test_the_list_leaves_columns_out_rather_than_cut_names_and_ids(runs, monkeypatch, columns):
    lines = lines_on_terminal(monkeypatch, columns, "list")
    assert max(map(len, lines)) <= columns
    assert sum(LONG in line and "20261126-12000" in line for line in lines) == 3
    assert ("source" in lines[0], "job id" in lines[0]) == (columns > 80, columns > 80)


def test_long_lines_of_the_status_go_on_below_their_own_column(runs, monkeypatch):
    lines = lines_on_terminal(monkeypatch, 80, "status", "20261126-120001-0001")
    words = [line for line in lines if not line.startswith("run ")]
    assert max(map(len, words)) <= 80
    assert any(line.startswith(" " * 16) for line in lines), "a reason why the queue could not be asked is long"


def test_output_to_a_pipe_is_not_folded_unless_columns_says_so(monkeypatch):
    text = "note            " + "word " * 40
    monkeypatch.delenv("COLUMNS", raising=False)
    assert folded(text, 16) == text
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, folded(text, 16).splitlines())) <= 80
    assert folded(text, 16).split() == text.split()


@pytest.mark.parametrize(
    ("term", "no_colour", "shown"), [("xterm", "", True), ("dumb", "", False), ("xterm", "1", False)]
)
def test_colours_need_a_terminal_that_has_them_and_a_user_who_wants_them(monkeypatch, term, no_colour, shown):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_colour)
    screen, terminal = pty.openpty()
    with open(terminal, "w") as stream:
        assert has_colours(stream) is shown
    os.close(screen)
