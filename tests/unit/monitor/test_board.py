"""A board is recorded into a text file, and its sensors are shown on any other machine."""

from __future__ import annotations

import pytest
from machines import RECORDED, Machine

from hpctrain.cli import main
from hpctrain.errors import SiteError
from hpctrain.monitor.board import record, unfold
from hpctrain.monitor.survey import survey
from hpctrain.monitor.sysfs import ROOT_VARIABLE, sysfs_root

pytestmark = pytest.mark.slow  # each look at sensors takes its time

BOARDS = ("agx-orin-64gb", "orin-nx-16gb", "laptop")


@pytest.mark.parametrize("name", BOARDS)
def test_a_recorded_board_shows_the_sensors_of_the_board(tmp_path, capsys, monkeypatch, name):
    recording = RECORDED / f"{name}.txt"
    expected = survey(Machine(tmp_path, name).root, is_recorded=True)
    assert main(["monitor", "--sensors", "--board", str(recording)]) == 0
    assert sensors(capsys.readouterr().out) == sensors(expected)
    monkeypatch.setenv(ROOT_VARIABLE, str(recording))
    assert sensors(survey(is_recorded=True)) == sensors(expected)


def sensors(text):
    """The names of the sensors and what is said of absent ones; loads of this process differ from look to look."""
    return [line.split()[0] for line in text.splitlines()[1:]], text.splitlines()[0]


@pytest.mark.parametrize("name", BOARDS)
def test_a_recording_of_a_board_is_that_board_again(tmp_path, name):
    root = Machine(tmp_path / "board", name).root
    assert record(tmp_path / "board.txt", root) > 10
    again = tmp_path / "again"
    unfold(tmp_path / "board.txt", again)
    assert sensors(survey(again, is_recorded=True)) == sensors(survey(root, is_recorded=True))
    with pytest.raises(SiteError, match="exists already"):
        record(tmp_path / "board.txt", root)


def test_this_machine_can_be_recorded(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    assert main(["monitor", "--record", str(path)]) == 0
    assert "files recorded" in capsys.readouterr().out
    assert "proc/meminfo = MemTotal:" in path.read_text()
    assert main(["monitor", "--sensors", "--board", str(path)]) == 0


def test_a_file_that_cannot_be_read_stays_unreadable(tmp_path):
    machine = Machine(tmp_path / "board", "agx-orin-64gb")
    machine.write("sys/class/thermal/thermal_zone0/temp", "!EIO")
    record(tmp_path / "board.txt", machine.root)
    unfold(tmp_path / "board.txt", tmp_path / "again")
    with pytest.raises(OSError, match="directory"):
        (tmp_path / "again/sys/class/thermal/thermal_zone0/temp").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no recorded file"),
        ("temp 41000\n", "line 1: found 'temp 41000'"),
        ("a = 1\n/etc/passwd = x\n", "line 2: found '/etc/passwd = x'"),
        ("../../x = 1\n", "line 1: found"),
    ],
    ids=["empty", "no recording", "absolute", "above"],
)
def test_a_file_that_is_no_recording_is_refused_and_nothing_is_written(tmp_path, text, message):
    path, folder = tmp_path / "board.txt", tmp_path / "folder"
    path.write_text(text)
    with pytest.raises(SiteError, match=message):
        unfold(path, folder)
    assert not folder.exists()


def test_a_path_that_does_not_exist_is_an_error(tmp_path, capsys, monkeypatch):
    absent = str(tmp_path / "absent")
    assert main(["monitor", "--sensors", "--board", absent]) == 2
    assert f"{absent}: no such file" in capsys.readouterr().err
    monkeypatch.setenv(ROOT_VARIABLE, absent)
    with pytest.raises(SiteError, match="no such folder or file"):
        sysfs_root()
    assert main(["monitor", "--sensors"]) == 3
    assert f"{ROOT_VARIABLE}={absent}: no such folder or file" in capsys.readouterr().err
