"""The first process of a container runs the ranks of its node, and tells the platform by its code what follows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import wait_until

from hpctrain.errors import SiteError
from hpctrain.launch.history import read_history
from hpctrain.launch.pod import FILES, INSIDE, fill, mark_cancelled
from hpctrain.rundir import RunDir

CHECKPOINT = 'mkdir -p "$1/checkpoints/step-00000001"; echo {} > "$1/checkpoints/step-00000001/MANIFEST.json"; '


def a_run(folder: Path, script: str, world_size: int = 1, **facts: object) -> RunDir:
    """Return a run whose ranks run a line of shell; ``$1`` is the run directory."""
    run = RunDir.create(folder / "runs", "vae")
    job = {
        "trainer": ["sh", "-c", script, "rank"],
        "environment": {"OMP_NUM_THREADS": "1"},
        "world_size": world_size,
        "requeue": True,
        "max_attempts": 5,
        "max_attempts_without_progress": 2,
        "submissions": [],
        **facts,
    }
    run.job.write_text(json.dumps(job))
    run.profile.write_text("name: vae\n")
    return run


def start(run: RunDir, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, "-m", "hpctrain.launch.pod", str(run.path), *arguments],
        env={**environment, "HPCTRAIN_JOB_ID": "vae-1", **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def end_of(run: RunDir, **variables: str) -> int:
    with start(run, **variables) as pod:
        pod.communicate(timeout=120)
    return pod.returncode


def script_of(run: RunDir, code: int) -> None:
    job = run.read_job()
    run.job.write_text(json.dumps({**job, "trainer": ["sh", "-c", f"exit {code}", "rank"]}))


def test_an_attempt_leaves_its_log_and_a_line_in_the_history(tmp_path):
    run = a_run(tmp_path, "echo rank $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE at $MASTER_ADDR", 2)
    assert end_of(run) == 0
    log = run.logs / "job-vae-1.0-rank-0001.log"
    assert log.read_text() == "rank 1 of 2, 1 of 2 at 127.0.0.1\n"
    (ended,) = read_history(run)
    assert (ended.job_id, ended.restart, ended.exit_code, ended.followed) == ("vae-1", 0, 0, "finished")


def test_two_containers_are_two_nodes_of_one_job(tmp_path):
    run = a_run(tmp_path, "echo rank $RANK of $WORLD_SIZE at $MASTER_ADDR", 2)
    words = {"HPCTRAIN_NODES": "2", "MASTER_ADDR": "vae-0.vae"}
    pods = [start(run, JOB_COMPLETION_INDEX=str(node), **words) for node in range(2)]
    for pod in pods:
        with pod:
            pod.communicate(timeout=120)
    assert [pod.returncode for pod in pods] == [0, 0]
    assert (run.logs / "job-vae-1.0-rank-0001.log").read_text() == "rank 1 of 2 at vae-0.vae\n"
    assert len(read_history(run)) == 1


def test_the_code_tells_the_platform_what_follows(tmp_path):
    run = a_run(tmp_path, f"{CHECKPOINT} exit 75")
    assert end_of(run) == 75
    for code, seen in ((76, 76), (75, 3), (4, 4)):
        script_of(run, code)
        assert end_of(run) == seen
    followed = [(item.restart, item.exit_code, item.followed) for item in read_history(run)]
    assert followed == [(0, 75, "requeued"), (1, 76, "requeued"), (2, 75, "no-progress"), (3, 4, "failed")]


def test_a_bug_in_one_of_several_containers_counts_as_a_lost_peer_until_there_is_no_progress(tmp_path):
    run = a_run(tmp_path, "exit 1", 2)
    words = {"HPCTRAIN_NODES": "2", "MASTER_ADDR": "vae-0.vae", "JOB_COMPLETION_INDEX": "0"}
    assert [end_of(run, **words) for _ in range(2)] == [76, 3]
    assert end_of(a_run(tmp_path / "alone", "exit 1")) == 1


def test_a_container_that_nobody_starts_again_does_so_itself(tmp_path):
    script = f'{CHECKPOINT} test -e "$1/once" && exit 0; touch "$1/once"; exit 75'
    run = a_run(tmp_path, script)
    assert end_of(run, HPCTRAIN_RESTART_INSIDE="1") == 0
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]


def test_after_term_the_ranks_save_and_the_platform_starts_the_job_again(tmp_path):
    run = a_run(tmp_path, f"trap '{CHECKPOINT} exit 75' TERM; touch \"$1/attempts/up\"; while :; do sleep 0.05; done")
    with start(run) as pod:
        wait_until(lambda: (run.attempts / "up").exists())
        pod.send_signal(signal.SIGTERM)
        pod.communicate(timeout=120)
    assert pod.returncode == 75
    assert read_history(run)[-1].followed == "requeued"


def test_a_killed_container_is_in_the_history_once_the_next_one_starts(tmp_path):
    run = a_run(tmp_path, 'touch "$1/attempts/up"; while :; do sleep 0.05; done')
    for restart in range(2):
        with start(run) as pod:
            wait_until(lambda: (run.attempts / "up").exists() or pod.poll() is not None)
            assert (run.logs / f"job-vae-1.{restart}-rank-0000.log").exists()
            pod.kill()
            pod.communicate(timeout=120)
        (run.attempts / "up").unlink()
    assert end_of(run) == 3, "two attempts without a checkpoint are enough"
    followed = [(item.restart, item.exit_code, item.followed) for item in read_history(run)]
    assert followed == [(0, 137, "requeued"), (1, 137, "no-progress")]


def test_each_container_of_a_finished_run_ends_well_where_it_starts_further_attempts_itself(tmp_path):
    run = a_run(tmp_path, "exit 0", 2)
    words = {"HPCTRAIN_NODES": "2", "MASTER_ADDR": "vae-0.vae", INSIDE: "1"}
    pods = [start(run, JOB_COMPLETION_INDEX=str(node), **words) for node in range(2)]
    for pod in pods:
        with pod:
            pod.communicate(timeout=120)
    assert [pod.returncode for pod in pods] == [0, 0]


def test_the_mirror_knows_how_an_attempt_has_ended(tmp_path):
    run = a_run(tmp_path, "exit 75")
    run.profile.write_text(f"name: vae\ncheckpoint: {{mirror: '{tmp_path}/mirror'}}\n")
    assert end_of(run) == 75
    there = RunDir(tmp_path / "mirror/vae" / run.run_id)
    assert [ended.exit_code for ended in read_history(there)] == [75]
    assert "ended with code 75" in (there.logs / "job-vae-1.0-pod-0000.log").read_text()


def test_term_while_a_run_is_brought_back_ends_a_container_at_once(tmp_path):
    run = a_run(tmp_path, "exit 0")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a store that takes the call and says nothing
        silent.settimeout(120)
        run.profile.write_text(f"name: vae\ncheckpoint: {{mirror: 'ftp://127.0.0.1:{silent.getsockname()[1]}/runs'}}\n")
        with start(run) as pod, silent.accept()[0]:
            pod.terminate()
            assert "TERM came before the ranks had started" in pod.communicate(timeout=120)[0]
    assert pod.returncode == 75


def test_a_run_that_its_user_cancels_is_not_said_to_go_on(tmp_path):
    run = a_run(tmp_path, "exit 75")
    mark_cancelled(run)
    assert end_of(run) == 3
    assert read_history(run)[-1].followed == "terminated"


def test_a_run_that_is_submitted_after_it_was_cancelled_goes_on(tmp_path):
    run = a_run(tmp_path, "exit 75")
    mark_cancelled(run)
    run.job.write_text(json.dumps({**run.read_job(), "submitted_at": time.time() + 1.0}))
    assert end_of(run) == 75
    assert read_history(run)[-1].followed == "requeued"


def test_a_time_limit_becomes_the_deadline_of_the_ranks(tmp_path):
    run = a_run(tmp_path, "echo $HPCTRAIN_DEADLINE", time_limit_s=3600)
    assert end_of(run) == 0
    assert int((run.logs / "job-vae-1.0-rank-0000.log").read_text()) > 1_700_000_000


def test_a_container_without_a_shared_folder_gets_its_run_from_files(tmp_path):
    source = a_run(tmp_path, "exit 0")
    run = RunDir(tmp_path / "pod/runs/vae" / source.run_id)
    with start(run, "--files", str(source.path)) as pod:
        pod.communicate(timeout=120)
    assert pod.returncode == 0
    assert run.profile.read_text() == source.profile.read_text()


def test_files_that_are_there_stay_and_missing_ones_are_named(tmp_path):
    source, run = a_run(tmp_path / "a", "exit 0"), a_run(tmp_path / "b", "exit 1")
    before = run.job.read_text()
    fill(run, source.path)
    assert run.job.read_text() == before
    run.job.unlink()
    source.job.unlink()
    with pytest.raises(SiteError, match=FILES[1]):
        fill(run, source.path)


def test_a_newer_submission_replaces_the_profile_and_the_job_that_the_platform_has_kept(tmp_path):
    kept = a_run(tmp_path / "kept", "exit 1", submitted_at=100.0)
    for time_s, script in ((100.0, "exit 1"), (200.0, "exit 0"), (150.0, "exit 0")):
        sent = a_run(tmp_path / f"sent-{time_s}", "exit 0", submitted_at=time_s)
        sent.profile.write_text(f"name: vae  # {time_s}\n")
        fill(kept, sent.path)
        assert kept.read_job()["trainer"][2] == script
    assert kept.profile.read_text() == "name: vae  # 200.0\n"


def test_ranks_that_do_not_divide_by_the_containers_are_an_error(tmp_path):
    run = a_run(tmp_path, "exit 0", 3)
    assert end_of(run, JOB_COMPLETION_INDEX="0", HPCTRAIN_NODES="2", MASTER_ADDR="a") == 3
