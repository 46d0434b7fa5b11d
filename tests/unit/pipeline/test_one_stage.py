"""An orchestrator calls one stage after the other, in processes of its own; the stages know their order too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from processes import wait_until

from hpctrain.cli import main
from hpctrain.pipeline.folder import RUNNING, PipelineDir

PIPELINE = """\
name: weekly
launch: {cluster: local}
stages:
  - {name: copy, run: "cp raw.txt {out}", inputs: [raw.txt]}
  - {name: gate, kind: command, run: "sh verdict.sh"}
  - {name: unused, run: ls, skip: true}
  - {name: note, run: "cp {copy}/raw.txt {out}"}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "weekly.yaml").write_text(PIPELINE)
    (tmp_path / "raw.txt").write_text("new")
    (tmp_path / "verdict.sh").write_text("exit 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def do(stage: str, given: str = "run+1") -> int:
    return main(["pipeline", "weekly.yaml", "--stage", stage, "--id", given])


def test_calls_with_the_same_id_are_one_time_through_and_each_stage_is_done_once(folder, capsys):
    assert [do(stage) for stage in ("copy", "gate", "note")] == [0, 0, 0]
    assert [path.parent.name for path in (folder / "pipelines/weekly").glob("*/pipeline.yaml")] == ["run-1"]
    assert do("note") == 0
    assert [do(stage, "run+2") for stage in ("copy", "gate", "note")] == [0, 0, 0]
    said = capsys.readouterr().out
    assert said.count(": done in") == 3
    assert said.count(": done before") == 3
    assert PipelineDir(folder / "pipelines/weekly/run-2").stage("unused").read_state().state == "skipped"


def test_no_stage_begins_before_those_that_it_waits_for(folder, capsys):
    assert do("note") == 4
    assert "stage note waits for copy, which is waiting" in capsys.readouterr().err
    assert do("copy") == 0
    (folder / "verdict.sh").write_text("exit 7\n")
    assert do("gate") == 7
    assert do("note") == 4, "although it reads nothing of the gate"
    assert "stage note waits for gate, which is gate failed" in capsys.readouterr().err


def test_a_stage_that_failed_is_done_again_when_it_is_called_again(folder):
    (folder / "raw.txt").rename("gone.txt")
    assert do("copy") == 4
    (folder / "gone.txt").rename("raw.txt")
    assert do("copy") == 0


def test_a_changed_pipeline_file_holds_from_the_next_call_on(folder):
    assert do("copy") == 0
    (folder / "weekly.yaml").write_text(PIPELINE.replace("sh verdict.sh", "sh other.sh"))
    (folder / "other.sh").write_text("exit 7\n")
    assert do("gate") == 7
    assert do("copy") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "copy"], "--stage: goes with --id"),
        (["--stage", "unused", "--id", "a"], "no stage 'unused' that is not skipped; there are copy, gate, note"),
        (["--stage", "copy", "--id", "../a"], "--id: '../a' cannot name a folder"),
        (["--stage", "copy", "--id", "store"], "--id: 'store' cannot name a folder"),
    ],
)
def test_a_wrong_call_says_what_is_right(words, message, capsys):
    assert main(["pipeline", "weekly.yaml", *words]) == 2
    assert message in capsys.readouterr().err


def is_alive(pid: str) -> bool:
    """Return whether a process runs; one that has ended, and that nobody has waited for, does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_term_ends_a_stage_and_what_it_has_started(folder):
    slow = "sh -c 'echo $$ > begun; exec sleep 600'"
    (folder / "weekly.yaml").write_text(PIPELINE.replace("cp raw.txt {out}", slow))
    if (child := os.fork()) == 0:
        os.setsid()
        os._exit(do("copy"))
    begun = folder / "begun"
    wait_until(lambda: (begun.exists() and begun.read_text()) or os.waitpid(child, os.WNOHANG)[0], "the stage")
    assert PipelineDir(folder / "pipelines/weekly/run-1").stage("copy").read_state().state == RUNNING
    os.killpg(child, signal.SIGTERM)  # as Airflow does
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    wait_until(lambda: not is_alive(begun.read_text().strip()), "the end of its command")
    (folder / "weekly.yaml").write_text(PIPELINE)
    assert do("copy") == 0
