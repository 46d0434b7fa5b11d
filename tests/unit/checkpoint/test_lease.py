"""One run directory, one job: the second is refused, the dead are recognised, and who was replaced is fenced."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from hpctrain.checkpoint.lease import take_lease
from hpctrain.distributed.process import identity, is_gone
from hpctrain.errors import CheckpointError
from hpctrain.metrics.record import MetricsWriter, supersede_after
from hpctrain.rundir import RunDir, write_json

ELSEWHERE = {"pid": 7, "boot_id": "of-another-host", "pid_namespace": "pid:[1]", "started_ticks": 5}

HOLDER = textwrap.dedent(
    """
    import sys, time
    from hpctrain.checkpoint.lease import take_lease
    from hpctrain.distributed.heartbeat import Heartbeat
    from hpctrain.distributed.world import World
    from hpctrain.rundir import RunDir
    run = RunDir(sys.argv[1])
    attempt = take_lease(run, {"job_id": sys.argv[2]})
    Heartbeat(run, World(job_id=sys.argv[2]), attempt, 0.1).start()
    print(attempt, flush=True)
    time.sleep(60)
    """
)


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "test", "run")


@pytest.fixture
def hold(run):
    """Return a function that starts a process which takes the lease and beats; behind `prefix` it is elsewhere."""
    started = []

    def begin(job_id, *prefix):
        command = [*prefix, sys.executable, "-c", HOLDER, str(run.path), job_id]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline().strip().isdigit()
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def beat(run, attempt, **changes):
    record = {"rank": 0, "attempt": attempt, "state": "training", "job_id": "7", "host": "n1", "time": time.time()}
    write_json(run.heartbeat(0), {**record, "interval_s": 0.1, "process": ELSEWHERE, **changes})


def refuse_to_wait(seconds):
    raise AssertionError(f"waits for {seconds} s")


def test_two_starters_never_get_the_same_attempt_number(run):
    assert [take_lease(run, {}) for _ in range(3)] == [1, 2, 3]


def test_a_second_job_on_the_same_host_is_refused_at_once_and_a_killed_one_is_known_to_be_dead(run, hold, monkeypatch):
    first = hold("7")
    with pytest.raises(CheckpointError, match=r"in use by job 7 \(rank 0 .* its process is running") as refused:
        take_lease(run, {"job_id": "8"})
    assert "hpctrain cancel" in str(refused.value)
    assert refused.value.exit_code == 5
    first.kill()
    first.wait()
    monkeypatch.setattr(time, "sleep", refuse_to_wait)  # nobody waits for a process that can be seen to be gone
    assert take_lease(run, {"job_id": "8"}) == 2


def test_a_second_step_of_the_same_job_is_refused_too_but_a_requeued_job_goes_on(run, hold):
    hold("7")
    with pytest.raises(CheckpointError, match="in use"):
        take_lease(run, {"job_id": "7", "restart_count": 0})
    # Slurm starts a job again only after it has ended it, or lost the node; what lives on there is fenced.
    assert take_lease(run, {"job_id": "7", "restart_count": 1}) == 2


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_job_that_cannot_be_seen_from_here_is_refused_by_its_heartbeat_alone(run, hold):
    """In a PID namespace of its own, as on another node of a shared file system, nothing of it is in /proc."""
    hold("7", "unshare", "--pid", "--fork", "--kill-child")
    with pytest.raises(CheckpointError, match=r"in use by job 7 .*its heartbeat continues"):
        take_lease(run, {"job_id": "8"})


@pytest.mark.parametrize("skew_s", [-200.0, -5.0, 0.0, 5.0, 200.0])
def test_clocks_that_differ_between_nodes_neither_hide_a_living_job_nor_revive_a_dead_one(run, skew_s):
    write_json(run.attempts / "0001.json", {"attempt": 1, "job_id": "7"})
    beat(run, 1, time=time.time() + skew_s)
    ended = threading.Event()

    def live():
        while not ended.wait(0.1):
            beat(run, 1, time=time.time() + skew_s)

    other_node = threading.Thread(target=live)
    other_node.start()
    try:
        with pytest.raises(CheckpointError, match="its heartbeat continues"):
            take_lease(run, {"job_id": "8"})
    finally:
        ended.set()
        other_node.join()
    assert take_lease(run, {"job_id": "8"}) == 2


def test_a_job_that_said_goodbye_or_was_silent_for_long_is_not_waited_for(run, monkeypatch):
    write_json(run.attempts / "0001.json", {"attempt": 1, "job_id": "7"})
    monkeypatch.setattr(time, "sleep", refuse_to_wait)
    beat(run, 1, state="stopped", interval_s=10)
    assert take_lease(run, {"job_id": "8"}) == 2
    beat(run, 2, time=time.time() - 3600, interval_s=10)
    assert take_lease(run, {"job_id": "9"}) == 3


@pytest.mark.slow
def test_of_many_jobs_that_start_at_the_same_moment_one_gets_the_run(run):
    program = textwrap.dedent(
        """
        import os, sys
        from hpctrain.checkpoint.lease import take_lease
        from hpctrain.errors import CheckpointError
        from hpctrain.rundir import RunDir
        run = RunDir(sys.argv[1])
        (ready, is_ready), (starts, start), (done, is_done), (ends, end) = (os.pipe() for _ in range(4))
        for job in range(8):
            if os.fork() == 0:
                os.close(start), os.close(end)
                os.write(is_ready, b"x")
                os.read(starts, 1)  # until its other end is closed
                try:
                    print(f"got {take_lease(run, {'job_id': str(job)})}\\n", end="", flush=True)
                except CheckpointError:
                    print("refused\\n", end="", flush=True)
                os.write(is_done, b"x")
                os.read(ends, 1)  # lives on: the job of a process that has ended could be replaced
                os._exit(0)
        for _ in range(8):
            os.read(ready, 1)
        os.close(start)
        for _ in range(8):
            os.read(done, 1)
        os.close(end)
        for _ in range(8):
            os.wait()
        """
    )
    done = subprocess.run([sys.executable, "-c", program, str(run.path)], stdout=subprocess.PIPE, text=True, check=True)
    answers = done.stdout.split("\n")
    assert sum(answer.startswith("got") for answer in answers) == 1, answers
    assert answers.count("refused") == 7
    assert len(run.read_attempts()) == 1


def test_a_process_number_that_was_given_again_is_not_taken_for_the_old_process():
    mine = identity()
    assert is_gone(mine) is False
    assert is_gone({**mine, "started_ticks": mine["started_ticks"] - 1}) is True
    assert is_gone({**mine, "boot_id": "of-another-host"}) is None
    assert is_gone({**mine, "pid_namespace": "pid:[1]"}) is None
    assert is_gone(None) is None


def test_a_directory_that_cannot_be_written_is_said_in_one_line(run):
    shutil.rmtree(run.attempts)
    with pytest.raises(CheckpointError, match=r"attempts: cannot be written"):
        take_lease(run, {})


def test_a_replaced_attempt_writes_no_record_that_anybody_reads(run):
    """Whether it had the file open already when the newer attempt took over, or opens it only later."""
    first, late = MetricsWriter(run, 1), MetricsWriter(run, 1)
    write_json(run.attempts / "0001.json", {"attempt": 1})
    first.train(5, loss=1.0)
    write_json(run.attempts / "0002.json", {"attempt": 2})
    supersede_after(run, 5)
    first.train(6, loss=2.0)
    with pytest.raises(CheckpointError, match="attempt 1 was replaced by attempt 2"):
        late.train(6, loss=3.0)
    second = MetricsWriter(run, 2)
    second.train(6, loss=4.0)
    assert [(r["step"], r["attempt"]) for r in map(json.loads, run.metrics.read_text().splitlines())] == [
        (5, 1),
        (6, 2),
    ]


def test_a_rank_whose_attempt_was_replaced_ends_itself(run, hold):
    """A node that was cut off and comes back must not compute on, nor write over the beats of the owner."""
    cut_off = hold("7")
    assert take_lease(run, {"job_id": "7", "restart_count": 1}) == 2
    assert cut_off.wait(600) == 5


def test_an_evaluation_that_a_checkpoint_does_not_know_is_taken_back_with_the_updates(run):
    metrics = MetricsWriter(run, 1)
    for step in (4, 5, 6):
        metrics.train(step, loss=1.0)
    metrics.evaluation(5, loss=1.0)
    metrics.close()
    assert supersede_after(run, 5, evaluated_step=0).moved == 2
    assert [(record["kind"], record["step"]) for record in run.read_metrics()] == [("train", 4), ("train", 5)]
