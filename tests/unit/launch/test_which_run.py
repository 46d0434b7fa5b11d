"""Which run a user means, which runs there are, and what is cancelled."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctrain.distributed.process import identity
from hpctrain.errors import ProfileError
from hpctrain.launch.runs import find_run, path_or_run
from hpctrain.rundir import RunDir, write_json

PROFILE = "name: {name}\nlaunch: {{gpus_per_node: 0, cpus_per_rank: 1}}\ndata: {{files: [spectra.h5]}}\n"


def make_run(folder: Path, name: str, run_id: str, job_id: str, is_active: bool = False) -> RunDir:
    """Make a run directory; in an active one a rank of this very process gives signs of life."""
    run = RunDir.create(folder / "runs", name, run_id)
    run.profile.write_text(PROFILE.format(name=name))
    write_json(run.job, {"cluster": "local", "submissions": [{"job_id": job_id, "submitted_at": time.time() - 90}]})
    if is_active:
        beat = {"rank": 0, "attempt": 1, "state": "training", "time": time.time(), "interval_s": 1000.0, "step": 3}
        write_json(run.heartbeat(0), {**beat, "host": os.uname().nodename, "process": identity()})
    return run


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    make_run(tmp_path, "quasars", "20260101-000000-aaaa", "local-7")
    make_run(tmp_path, "quasars", "20260102-000000-bbbb", "local-8")
    make_run(tmp_path, "galaxies", "20260103-000000-cccc", "local-9")
    return tmp_path


def types(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpctrain", *words]
    return subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("text", "run_id"),
    [
        (None, "20260103-000000-cccc"),
        ("quasars", "20260102-000000-bbbb"),
        ("20260101-000000-aaaa", "20260101-000000-aaaa"),
        ("local-7", "20260101-000000-aaaa"),
        ("runs/quasars/20260101-000000-aaaa", "20260101-000000-aaaa"),
    ],
)
def test_a_path_a_name_a_run_id_and_a_job_id_mean_a_run(folder, text, run_id):
    assert find_run(text, Path("runs")).run_id == run_id
    if text is not None:
        assert path_or_run(text, Path("runs")).name == run_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quasar", "did you mean 'quasars'?"),
        ("20260101-000000-aaab", "did you mean '20260101-000000-aaaa'"),
        ("stars-of-the-bulge", "there is galaxies, quasars"),
        ("runs", "this folder contains runs but is not a run directory; name one of them, such as 2026"),
        ("runs/quasars", "name one of them, such as 20260102-000000-bbbb"),
        (".", "such as 2026"),
    ],
)
def test_what_is_no_run_is_answered_with_what_there_is(folder, text, said):
    if text == ".":
        (folder / "empty").mkdir()
        text, said = "empty", "this folder has no profile.yaml"
    with pytest.raises(ProfileError, match="(?s)" + said.replace("?", r"\?")):
        find_run(text, Path("runs"))


@pytest.mark.slow
def test_a_profile_can_start_from_a_run_by_its_name(folder):
    (folder / "tune.yaml").write_text(PROFILE.format(name="tune") + "train: {init_from: quasars}\n")
    (folder / "runs/quasars/20260102-000000-bbbb/model").mkdir()
    assert types("check", "tune.yaml", "--no-memory").returncode == 0
    done = types("check", "tune.yaml", "--no-memory", "--set", "train.init_from=quasar")
    assert done.returncode == 2
    assert "'quasar' does not exist; did you mean 'quasars'?" in done.stderr
    from hpctrain.launch.submit import with_absolute_paths
    from hpctrain.profile.load import load_profile

    profile = with_absolute_paths(load_profile("tune.yaml"), folder)
    assert profile.train.init_from == str(folder / "runs/quasars/20260102-000000-bbbb")


@pytest.mark.slow
def test_a_list_is_chosen_by_name_and_state_and_shows_age_and_size(folder):
    make_run(folder, "quasars", "20260104-000000-dddd", "local-10", is_active=True)
    all_of_them = json.loads(types("list", "--json").stdout)
    assert [one["run_id"][-4:] for one in all_of_them] == ["dddd", "cccc", "bbbb", "aaaa"]
    for one in all_of_them:
        assert one["age_s"] >= 90
        assert one["bytes"] > len(PROFILE)
    named = json.loads(types("list", "--json", "--name", "quas*").stdout)
    assert {one["name"] for one in named} == {"quasars"}
    running = json.loads(types("list", "--json", "--state", "running", "--last", "1").stdout)
    assert [one["run_id"][-4:] for one in running] == ["dddd"]
    text = types("list", "--state", "running").stdout
    assert {"age", "size"} <= set(text.splitlines()[0].split())
    assert "no runs of this name or state" in types("list", "--name", "x").stdout
    wrong = types("list", "--state", "runing")
    assert wrong.returncode == 2
    assert "'runing' is not a state; the states are" in wrong.stderr


@pytest.mark.slow
def test_cancel_names_the_active_runs_where_several_could_be_meant(folder):
    first = make_run(folder, "quasars", "20260104-000000-dddd", "local-10", is_active=True)
    second = make_run(folder, "quasars", "20260105-000000-eeee", "local-11", is_active=True)
    for words in (("cancel",), ("cancel", "quasars"), ("cancel", "--yes")):
        done = types(*words)
        assert done.returncode == 2, words
        for run in (first, second):
            assert f"hpctrain cancel runs/quasars/{run.run_id}" in done.stderr


def test_cancel_without_a_run_asks_on_a_terminal(folder):
    run = make_run(folder, "quasars", "20260104-000000-dddd", "local-10", is_active=True)
    terminal, inside = pty.openpty()
    os.write(terminal, b"n\n")
    done = types("cancel", stdin=inside)
    os.close(inside)
    os.close(terminal)
    assert done.returncode == 0, done.stderr
    assert f"cancel runs/quasars/{run.run_id} (job local-10, running" in done.stdout
    assert done.stdout.endswith("nothing was cancelled\n")


def test_cancel_without_an_active_run_says_so(folder):
    done = types("cancel")
    assert done.returncode == 0
    assert "there is nothing to cancel" in done.stdout


@pytest.mark.slow
def test_logs_names_the_ranks_there_are_and_says_why_there_is_none(folder):
    run = RunDir("runs/quasars/20260102-000000-bbbb")
    done = types("logs", "quasars")
    assert done.returncode == 2
    assert "rank 0 has not written a log yet; the run is" in done.stderr
    for rank in (0, 1):
        (run.logs / f"job-local-8.0-rank-{rank:04d}.log").write_text(f"I am rank {rank}\n")
    assert types("logs", "quasars", "--rank", "1").stdout == "I am rank 1\n"
    done = types("logs", "quasars", "--rank", "7")
    assert done.returncode == 2
    assert "there is no log of rank 7; there are logs of rank 0, 1" in done.stderr
    assert "attempts" in types("logs", "quasars", "--attempt", "3").stderr or "1 attempt has" in (
        types("logs", "quasars", "--attempt", "3").stderr
    )


@pytest.mark.slow
def test_follow_says_at_once_what_it_waits_for(folder):
    done = types("logs", "galaxies", "-f")
    assert "rank 0 has not written a log yet; the run is" in done.stderr
    assert done.returncode == 0
