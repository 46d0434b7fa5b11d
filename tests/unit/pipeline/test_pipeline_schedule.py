"""What calls a pipeline again and again is a text for cron, scrontab or systemd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hpctrain.cli import main

PIPELINE = "name: weekly\nlaunch: {partition: cpu}\nstages: [{name: list, run: ls}]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "weekly.yaml").write_text(PIPELINE.replace("launch: {", "launch: {cluster: local, "))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *words: str) -> str:
    assert main(["pipeline", "schedule", "weekly.yaml", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("every", "fields"),
    [("5m", "*/5 * * * *"), ("1m", "* * * * *"), ("1h", "0 * * * *"), ("6h", "0 */6 * * *"), ("1d", "0 3 * * *")],
)
def test_cron_calls_it_with_all_that_it_needs(folder, capsys, every, fields):
    line = said(capsys, "--every", every).splitlines()[1]
    assert line.startswith(f"{fields} cd {folder} && ")
    assert f"-m hpctrain pipeline {folder / 'weekly.yaml'} --if-changed >> " in line


@pytest.mark.parametrize(("every", "message"), [("7m", "cron cannot say every 7m"), ("often", "'often' is no time")])
def test_a_time_that_cron_cannot_say_is_refused(folder, capsys, every, message):
    assert main(["pipeline", "schedule", "weekly.yaml", "--every", every]) == 2
    assert message in capsys.readouterr().err


def test_the_line_runs_as_cron_runs_it(folder, capsys):
    _, line = said(capsys, "--every", "5m").splitlines()
    command = line.split(" ", 5)[5]
    done = subprocess.run(["/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "list: done" in (folder / "pipelines/weekly/schedule.log").read_text()


def test_scrontab_asks_for_the_partition_of_the_pipeline(folder, capsys):
    text = said(capsys, "--for", "scron", "--every", "2h")
    assert "#SCRON --job-name=weekly-schedule --time=30 --partition=cpu\n0 */2 * * * cd " in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_takes_the_units(folder, capsys):
    text = said(capsys, "--for", "systemd", "--every", "7m")
    service, timer = text.split("\n\n# ~/.config/systemd/user/hpctrain-weekly.timer\n")
    (folder / "hpctrain-weekly.service").write_text(service)
    (folder / "hpctrain-weekly.timer").write_text(timer)
    command = ["systemd-analyze", "verify", "hpctrain-weekly.timer", "hpctrain-weekly.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
