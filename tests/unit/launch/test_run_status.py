"""Where a run stands: who is asked, in which order, and what an answer, a silence or a contradiction means."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctrain.distributed.process import identity
from hpctrain.errors import ProfileError
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.launch.lastwords import read_backwards, read_last_words
from hpctrain.launch.present import block, progress_line
from hpctrain.launch.runs import all_runs, find_run
from hpctrain.launch.status import describe
from hpctrain.launch.wait import exit_code
from hpctrain.rundir import RunDir, write_json

NOW = 1_800_000_000.0


def make_run(folder: Path, run_id: str = "20270115-080000-aaaa", name: str = "quasars", job_id: str = "7") -> RunDir:
    run = RunDir.create(folder / "runs", name, run_id)
    run.profile.write_text("name: quasars\n")
    submissions = [{"job_id": job_id, "array_index": None, "submitted_at": NOW}] if job_id else []
    cluster = "local" if job_id.startswith("local") else "slurm"
    write_json(run.job, {"run_id": run_id, "name": name, "cluster": cluster, "submissions": submissions})
    return run


def say(run: RunDir, **fields: object) -> None:
    with open(run.metrics, "a") as stream:
        stream.write(json.dumps({"kind": "event", "time": NOW - 100, "attempt": 1, "step": 0, **fields}) + "\n")


def beat(run: RunDir, age_s: float, state: str = "running", **fields: object) -> None:
    record = {"rank": 0, "attempt": 1, "step": 40, "total_steps": 100, "interval_s": 10.0, "host": "n1", "pid": 1}
    write_json(run.heartbeat(0), {**record, "state": state, "time": NOW - age_s, **fields})


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """Put squeue, scontrol and sacct of our own on PATH, each with an answer or with words and exit code 1."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def install(**answers: str) -> Path:
        defaults = {
            "squeue": "!slurm_load_jobs error: Invalid job id specified",
            "scontrol": "!slurm_load_jobs error: Invalid job id specified",
            "sacct": "!Slurm accounting storage is disabled",
        }
        for command, answer in {**defaults, **answers}.items():
            stream, code = (">&2", 1) if answer.startswith("!") else ("", 0)
            text = f"#!/bin/sh\necho {command} >> {folder}/asked\necho '{answer.lstrip('!')}' {stream}\nexit {code}\n"
            (folder / command).write_text(text)
            (folder / command).chmod(0o755)
        return folder / "asked"

    return install


def squeue(state: str, reason: str = "None", start: str = "N/A", nodes: str = "n[1-2]", name: str = "quasars") -> str:
    return f"{state}|{reason}|{start}|2027-01-16T08:00:00|{nodes}|{name}"


@pytest.mark.parametrize(
    ("answer", "state", "detail"),
    [
        (squeue("RUNNING"), "running", "n[1-2], until 2027-01-16T08:00:00"),
        (squeue("PENDING", "Resources", "2027-01-15T09:00:00", ""), "pending", "expected to start 2027-01-15T09:00:00"),
        (squeue("PENDING", "Priority", nodes=""), "pending", "Priority"),
        (squeue("CANCELLED"), "cancelled", ""),
        (squeue("TIMEOUT"), "failed", "TIMEOUT"),
        (squeue("NODE_FAIL"), "failed", "NODE_FAIL"),
        (squeue("SUSPENDED"), "running", "n[1-2]"),
    ],
)
def test_squeue_is_believed_first(tmp_path, slurm_says, answer, state, detail):
    asked = slurm_says(squeue=answer)
    status = describe(make_run(tmp_path), NOW)
    assert (status.state, status.source, status.silent) == (state, "squeue", [])
    assert detail in status.detail
    assert asked.read_text() == "squeue\n"


def test_a_pending_job_that_has_run_before_is_requeued(tmp_path, slurm_says):
    slurm_says(squeue=squeue("PENDING", "BeginTime"))
    run = make_run(tmp_path)
    write_json(run.attempts / "0001.json", {"attempt": 1, "job_id": "7"})
    assert describe(run, NOW).state == "requeued"


def test_a_pending_job_that_goes_on_with_an_older_jobs_run_is_pending(tmp_path, slurm_says):
    slurm_says(squeue=squeue("PENDING", "Resources"))
    run = make_run(tmp_path)
    write_json(run.attempts / "0001.json", {"attempt": 1, "job_id": "3"})
    assert describe(run, NOW).state == "pending"


def test_scontrol_is_asked_where_squeue_is_silent(tmp_path, slurm_says):
    slurm_says(squeue="", scontrol="JobId=7 JobName=quasars JobState=RUNNING Reason=None NodeList=n1 ExitCode=0:0")
    status = describe(make_run(tmp_path), NOW)
    assert (status.state, status.source) == ("running", "scontrol")
    assert status.silent == ["squeue: does not list the job"]


def test_sacct_is_asked_last(tmp_path, slurm_says):
    slurm_says(sacct="CANCELLED by 1000|2027-01-15T08:00:00|2027-01-15T09:00:00|n1|0:15|quasars")
    status = describe(make_run(tmp_path), NOW)
    assert (status.state, status.source) == ("cancelled", "sacct")


def test_without_accounting_the_run_speaks_for_itself(tmp_path, slurm_says):
    slurm_says()
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    say(run, kind="train", step=100, loss=0.5, samples_per_s=10)
    say(run, event="finished", step=100)
    status = describe(run, NOW)
    assert (status.state, status.source, status.step, status.total_steps) == ("finished", "run directory", 100, 100)
    assert status.silent == [
        "squeue: slurm_load_jobs error: Invalid job id specified",
        "scontrol: slurm_load_jobs error: Invalid job id specified",
        "sacct: Slurm accounting storage is disabled",
    ]


def test_an_id_that_now_belongs_to_another_job_is_no_answer(tmp_path, slurm_says):
    slurm_says(squeue=squeue("RUNNING", name="galaxies"))
    run = make_run(tmp_path)
    say(run, event="finished", step=1)
    assert (describe(run, NOW).state, describe(run, NOW).source) == ("finished", "run directory")


def test_a_controller_that_is_down_is_asked_once_only(tmp_path, slurm_says):
    """Every client waits nine seconds for it."""
    words = "!slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    asked = slurm_says(squeue=words, scontrol=words)
    status = describe(make_run(tmp_path), NOW)
    assert status.state == "unknown"
    assert asked.read_text() == "squeue\nsacct\n"


def test_a_queue_that_does_not_know_the_job_is_no_proof_that_it_is_gone(tmp_path, slurm_says):
    slurm_says(squeue="")
    run = make_run(tmp_path)
    beat(run, age_s=8)
    status = describe(run, NOW)
    assert (status.state, status.source, status.detail) == ("running", "heartbeat", "1 rank alive on n1")


def ended_process():
    """Identity of a process of this machine that is no more."""
    code = "import json; from hpctrain.distributed.process import identity; print(json.dumps(identity()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_a_rank_that_was_killed_here_a_moment_ago_is_not_alive(tmp_path, slurm_says):
    slurm_says()
    run = make_run(tmp_path, job_id="local-1")
    beat(run, age_s=2, process=ended_process())
    assert describe(run, NOW).state == "lost"
    beat(run, age_s=2, process=identity())
    assert describe(run, NOW).state == "running"


def test_a_rank_of_this_machine_from_before_its_reboot_is_not_alive(tmp_path, slurm_says):
    slurm_says()
    run = make_run(tmp_path, job_id="local-1")
    before = {**identity(), "boot_id": "another"}
    beat(run, age_s=2, process=before, host=socket.gethostname())
    assert describe(run, NOW).state == "lost"
    beat(run, age_s=2, process=before, host="elsewhere")
    assert describe(run, NOW).state == "running", "another machine may live on"


def test_a_run_without_a_sign_of_life_is_lost(tmp_path, slurm_says):
    slurm_says()
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    beat(run, age_s=7200)
    status = describe(run, NOW)
    assert (status.state, status.source) == ("lost", "heartbeat")
    assert "no heartbeat for 7200 s" in status.detail


@pytest.mark.parametrize(
    ("followed", "code", "state"),
    [
        ("terminated", 75, "cancelled"),
        ("failed", 4, "failed"),
        ("no-progress", 137, "stopped"),
        ("too-many-attempts", 75, "stopped"),
        ("finished", 0, "finished"),
    ],
)
def test_the_batch_scripts_last_line_tells_how_a_forgotten_job_ended(tmp_path, slurm_says, followed, code, state):
    slurm_says()
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    append_history(run, EndedAttempt(NOW, "7", 0, code, "none", "step-00000005", followed))
    status = describe(run, NOW)
    assert (status.state, status.source) == (state, "run directory")
    assert exit_code(status) == code


def test_an_error_on_record_is_shown(tmp_path, slurm_says):
    slurm_says(squeue=squeue("FAILED"))
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    say(run, event="failed", error="DataError: tiny.h5: flux is missing", exit_code=4)
    status = describe(run, NOW)
    assert status.state == "failed"
    assert "exit code 4: DataError: tiny.h5: flux is missing" in status.detail


def test_an_error_of_an_earlier_attempt_is_history(tmp_path, slurm_says):
    slurm_says(squeue=squeue("RUNNING"))
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    say(run, event="stopped", cause="USR2", exit_code=75, step=30)
    say(run, event="started", step=30, total_steps=100, attempt=2)
    words = read_last_words(run)
    assert (words.step, words.stopped, words.total_steps) == (30, "", 100)


def test_rate_and_time_left_come_from_the_newest_records(tmp_path, slurm_says):
    slurm_says(squeue=squeue("RUNNING"))
    run = make_run(tmp_path)
    say(run, event="started", total_steps=1000)
    for step in range(1, 101):
        say(run, kind="train", step=step, time=NOW - 200 + 2 * step, loss=1 / step, samples_per_s=64.0)
    say(run, kind="eval", step=100, loss=0.25)
    status = describe(run, NOW)
    assert (status.loss, status.validation_loss, status.samples_per_s) == (0.01, 0.25, 64.0)
    assert status.eta_s == pytest.approx(1800)
    assert "time left       30m00s" in block(status)
    assert "step 100/1,000 (10 %), loss 0.01, 64 spectra/s" in progress_line(status)


def test_a_last_step_without_weight_does_not_hide_the_loss_before_it(tmp_path, slurm_says):
    slurm_says(squeue=squeue("RUNNING"))
    run = make_run(tmp_path)
    say(run, event="started", total_steps=100)
    say(run, kind="train", step=99, loss=0.5)
    say(run, kind="train", step=100, lr=0.001)
    assert (describe(run, NOW).loss, describe(run, NOW).step) == (0.5, 100)
    say(run, kind="train", step=101, loss=None, nonfinite=["loss"])
    assert describe(run, NOW).loss is None  # diverged: an older loss would hide it


def test_records_are_read_backwards_over_any_block_border(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [{"kind": "event", "time": NOW, "step": step, "text": "é" * (step % 700)} for step in range(1000)]
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + '\n{"torn": 1')
    assert list(read_backwards(path)) == records[::-1]


def test_runs_are_found_by_path_name_run_id_and_job_id(tmp_path):
    old = make_run(tmp_path, "20270114-080000-aaaa", job_id="5")
    new = make_run(tmp_path, "20270115-080000-bbbb", job_id="8_1")
    other = make_run(tmp_path, "20270113-080000-cccc", name="galaxies", job_id="9")
    runs = tmp_path / "runs"
    assert [run.path for run in all_runs(runs)] == [new.path, old.path, other.path]
    for text, run in [
        (None, new),
        (str(old.path), old),
        ("quasars", new),
        ("galaxies", other),
        (old.run_id, old),
        ("5", old),
        ("8_1", new),
    ]:
        assert find_run(text, runs).path == run.path


def test_a_run_that_is_not_there_is_missed_with_a_suggestion(tmp_path):
    make_run(tmp_path)
    with pytest.raises(ProfileError, match=r"quasar: no run .* did you mean 'quasars'\?"):
        find_run("quasar", tmp_path / "runs")
    with pytest.raises(ProfileError, match="there are no runs in"):
        find_run(None, tmp_path / "nowhere")


def test_now_is_now_by_default(tmp_path, slurm_says):
    slurm_says()
    run = make_run(tmp_path)
    beat(run, age_s=NOW - time.time() + 5)
    assert describe(run).state == "running"
