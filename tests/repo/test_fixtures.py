"""The fixtures that all tests share do what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import processes
import pytest
from leaking_variables import leaking

TESTS = Path(__file__).resolve().parents[1]


def test_no_variable_of_the_job_a_test_was_started_from_gets_through():
    assert leaking() == []
    assert os.environ["OMP_NUM_THREADS"] == "1"


CARELESS = """
import os
import subprocess
import sys
import time
from multiprocessing import resource_tracker

import pytest

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
KEPT = []


def test_one_leaves_a_variable():
    os.environ["SLURM_JOB_ID"] = "1"  # without monkeypatch, as a careless test does


def test_two_does_not_see_it():
    assert "SLURM_JOB_ID" not in os.environ


def test_three_leaves_a_child():
    KEPT.append(subprocess.Popen(SLEEP, stdout=subprocess.PIPE))  # as the traceback of a failure keeps it
    print(f"left {KEPT[0].pid}.")


def test_four_fails_and_leaves_an_orphan():
    code = f"from subprocess import DEVNULL, Popen; print(Popen({SLEEP!r}, stdout=DEVNULL, stderr=DEVNULL).pid)"
    orphan = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    print(f"left {orphan.strip()}.")
    raise AssertionError("it was to fail")


def test_five_is_interrupted_as_in_the_foreground():
    code = "import signal; print(signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\\n"
    KEPT.clear()  # no warning that it still runs


@pytest.mark.parametrize("number", [6, 7])
def test_multiprocessing_finds_its_resource_tracker_alive(number):
    resource_tracker.ensure_running()  # warns if somebody has killed it
"""


@pytest.mark.slow
def test_what_a_test_leaves_behind_harms_no_other(tmp_path):
    """A session of its own, started as a shell starts one in the background: with SIGINT ignored."""
    (tmp_path / "test_careless.py").write_text(CARELESS)
    own = [
        "-p",
        "no:cacheprovider",
        "-q",
        "-rA",
        "--rootdir",
        str(TESTS.parent),
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        "-o",
        "pythonpath=",  # another conftest.py is there
    ]
    pytest_command = [sys.executable, "-m", "pytest", *own, "--confcutdir", str(tmp_path), "-p", "conftest"]
    path = os.pathsep.join(map(str, (TESTS, TESTS / "flow")))
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_command, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    left = re.findall(r"left (\d+)\.", done.stdout)
    assert len(left) == 2
    assert not [pid for pid in left if os.path.exists(f"/proc/{pid}/exe") and is_a_sleeper(pid)]


def test_processes_that_end_while_they_are_listed_or_killed_are_no_error():
    before = processes.children()
    with subprocess.Popen(["sh", "-c", "while :; do (:); done"]) as forking:
        for _ in range(300):
            assert processes.children() - before
        processes.end(processes.children() - before)
        assert forking.returncode == -signal.SIGKILL
    assert processes.children() == before


def is_a_sleeper(pid: str) -> bool:
    try:
        return "time.sleep(600)" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_the_simulated_file_has_the_layout_that_the_trainer_reads(simulated_file):
    with h5py.File(simulated_file) as file:
        assert file["flux"].shape == file["ivar"].shape == (400, 500)
        assert file["wavelength"].shape == (500,)
        assert file["target_id"].shape == file["redshift"].shape == (400,)


@pytest.mark.shared_data
def test_the_survey_files_are_found(shared_data):
    assert (shared_data / "sdss_spec").is_dir()
