"""A run on this machine: ranks, another attempt, a stop, a death; with a stub in the trainer's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctrain.launch.history import read_history
from hpctrain.launch.status import describe
from hpctrain.launch.supervisor import is_supervised, supervisor_path
from hpctrain.rundir import RunDir, read_json, write_json

ROOT = Path(__file__).resolve().parents[3]
STUB = [sys.executable, "-u", str(ROOT / "tests/slurm/stub_trainer.py")]


def make_run(folder: Path, **job: object) -> RunDir:
    run = RunDir.create(folder / "runs", "stub")
    run.profile.write_text("name: stub\n")
    defaults = {
        "name": "stub",
        "cluster": "local",
        "submissions": [],
        "trainer": STUB,
        "environment": {},
        "world_size": 2,
        "requeue": True,
        "max_attempts": 5,
        "max_attempts_without_progress": 2,
    }
    write_json(run.job, {**defaults, **job})
    return run


def wait_until(condition, timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(marker: str) -> list[int]:
    """Processes whose command line holds `marker`, but for zombies and this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if marker in line and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def supervise(tmp_path) -> Iterator:
    started: list[subprocess.Popen] = []

    def start(run: RunDir, stub: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "hpctrain.launch.supervisor", str(run.path)]
        environment = {**os.environ, "STUB": stub, "PYTHONPATH": str(ROOT)}
        with open(tmp_path / "supervisor.log", "w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_all_ranks_run_once_and_finish(tmp_path, supervise):
    run = make_run(tmp_path)
    supervisor = supervise(run, "steps=3")
    assert supervisor.wait(600) == 0
    assert [ended.followed for ended in read_history(run)] == ["finished"]
    logs = sorted(path.name for path in run.logs.glob("job-*"))
    assert logs == [f"job-local-{supervisor.pid}.0-rank-{rank:04d}.log" for rank in range(2)]
    status = describe(run)
    assert (status.state, status.source) == ("finished", "run directory")


@pytest.mark.slow
def test_a_killed_rank_is_followed_by_another_attempt(tmp_path, supervise):
    run = make_run(tmp_path)
    assert supervise(run, "steps=40 kill=1:@3").wait(600) == 0
    first, last = read_history(run)
    assert (first.followed, first.exit_code, last.followed) == ("requeued", 137, "finished")
    assert first.after != "none"  # its peer was told to stop, and saved


COOLS_DOWN_IN = """
import sys
from hpctrain.launch.supervisor import Supervisor
from hpctrain.rundir import RunDir
run = RunDir(sys.argv[1])
run.make_folders()
sys.exit(Supervisor(run, cool_down_s=float(sys.argv[2])).supervise())
"""


def supervise_hot(run: RunDir, cool_down_s: float) -> subprocess.Popen:
    """Supervise ranks whose first attempt leaves because the machine is too hot."""
    environment = {**os.environ, "STUB": "steps=6 exit=0:78@3", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COOLS_DOWN_IN, str(run.path), str(cool_down_s)]
    with open(run.logs / "supervisor.log", "w") as log:
        return subprocess.Popen(command, env=environment, stdout=log)


def test_ranks_that_were_too_hot_start_again_after_a_while(tmp_path):
    run = make_run(tmp_path, world_size=1)
    process = supervise_hot(run, 1.0)
    assert process.wait(600) == 0
    first, second = read_history(run)
    assert (first.exit_code, first.followed) == (78, "requeued")
    assert second.followed == "finished"
    assert "too hot; the next attempt starts in 1 s" in (run.logs / "supervisor.log").read_text()


def test_a_run_that_cools_down_can_be_cancelled(tmp_path):
    run = make_run(tmp_path, world_size=1)
    process = supervise_hot(run, 300.0)
    wait_until(lambda: read_history(run))
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 78
    assert len(read_history(run)) == 1


def test_a_users_error_ends_the_run_and_its_peers(tmp_path, supervise):
    run = make_run(tmp_path)
    assert supervise(run, "steps=600 exit=1:4@3").wait(600) == 4
    assert [ended.followed for ended in read_history(run)] == ["failed"]
    assert not alive(str(run.path))


def test_a_stop_lets_the_ranks_save_and_ends_the_run(tmp_path, supervise):
    run = make_run(tmp_path)
    supervisor = supervise(run, "steps=600")
    wait_until(lambda: describe(run).step >= 2)
    status = describe(run)
    assert (status.state, status.source, is_supervised(run)) == ("running", "supervisor", True)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(600) == 75
    ended = read_history(run)[-1]
    assert (ended.followed, ended.after != "none") == ("terminated", True)
    assert describe(run).state == "cancelled"
    assert not is_supervised(run)


def test_ranks_do_not_outlive_a_killed_supervisor(tmp_path, supervise):
    run = make_run(tmp_path)
    supervisor = supervise(run, "steps=600")
    wait_until(lambda: describe(run).step >= 2)
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: not alive(str(run.path)))
    assert not is_supervised(run)


def test_a_second_supervisor_is_refused(tmp_path, supervise):
    run = make_run(tmp_path)
    supervise(run, "steps=600")
    wait_until(lambda: is_supervised(run))
    assert supervise(run, "steps=600").wait(600) == 5


def test_gpus_that_the_user_chose_reach_the_ranks(tmp_path, supervise, monkeypatch):
    """submitit's local executor writes its own CUDA_VISIBLE_DEVICES over the user's."""
    tell = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['LOCAL_RANK'])"
    for chosen, expected in (("1", "1"), ("all", "None")):
        run = make_run(tmp_path / chosen, trainer=[sys.executable, "-c", tell])
        monkeypatch.setenv("HPCTRAIN_VISIBLE_GPUS", chosen)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert supervise(run, "").wait(600) == 0
        assert sorted(path.read_text() for path in run.logs.glob("*rank*")) == [f"{expected} 0\n", f"{expected} 1\n"]


FILLS_THE_DISK = """
import sys
try:
    with open(sys.argv[1] + "/other-job", "ab", buffering=0) as stream:
        while True:
            stream.write(b"x" * 512)
except OSError:
    sys.exit(4)
"""


def test_a_disk_that_is_full_hides_no_exit_code_behind_a_traceback_and_a_start_on_it_exits_with_5(make_disk):
    run = make_run(make_disk(256), trainer=[sys.executable, "-c", FILLS_THE_DISK], world_size=1)
    command = [sys.executable, "-m", "hpctrain.launch.supervisor", str(run.path)]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stdout=full, stderr=full, cwd=ROOT, timeout=300).returncode == 4
    assert read_history(run) == []  # it could not be recorded
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 5, done
    assert "No space left on device" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_start_returns_at_once_and_the_run_outlives_the_command(tmp_path):
    run = make_run(tmp_path, world_size=1)
    imports = "from hpctrain.launch.targets.local import start_local; from hpctrain.rundir import RunDir"
    script = f"{imports}; print(start_local(RunDir({str(run.path)!r})))"
    environment = {**os.environ, "STUB": "steps=600", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert is_supervised(run)  # the command is over, and the run is not
    record = read_json(supervisor_path(run))
    assert done.stdout.strip() == record["job_id"] == f"local-{record['pid']}"
    try:
        wait_until(lambda: describe(run).step >= 2)
        assert os.getsid(record["pid"]) != os.getsid(0)  # a closed terminal does not reach it
    finally:
        os.kill(record["pid"], signal.SIGTERM)
    wait_until(lambda: not is_supervised(run))
    assert read_history(run)[-1].followed == "terminated"
    assert json.loads(run.job.read_text())["world_size"] == 1
