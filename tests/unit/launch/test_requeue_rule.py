"""What follows an attempt: one table, held against the batch script's shell and the local supervisor's Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from hpctrain.launch.history import EndedAttempt, append_history, newest_checkpoint, read_history, what_follows
from hpctrain.launch.targets.slurm_script import attempt_script
from hpctrain.rundir import RunDir, note_bad_nodes

FAKE_COMMANDS = {
    "squeue": "echo 2030-01-02T03:04:05",
    "sinfo": "echo 10.0.0.7",
    "scontrol": 'echo "$@" >> "$FAKE/scontrol.log"; [ "$1" != show ] || echo node1',
    "srun": """echo "$@" > "$FAKE/srun.log"
        env > "$FAKE/environment"
        cat "$FAKE/says" >&2
        BATCH=$PPID sh "$FAKE/acts"
        exit $CODE""",
}


@dataclass(frozen=True)
class Case:
    """An attempt of job 7 as it ended, and what must follow."""

    followed: str
    code: int = 75
    says: str = ""
    acts: str = ":"
    restart: int = 0
    requeue: bool = True
    max_attempts: int = 10
    without_progress: int = 3
    earlier: tuple[tuple[str, str, str], ...] = ()  # job id, followed, newest checkpoint after
    exits_with: int | None = None


ADVANCE = 'd="$run_dir/checkpoints/step-00000009"; mkdir -p "$d" && touch "$d/MANIFEST.json"'
STUCK = ("7", "requeued", "none")

CASES = {
    "finished": Case("finished", code=0),
    "saved and asks for more": Case("requeued"),
    "saved because it was too hot": Case(
        "requeued", code=78, says="srun: error: n1: tasks 0-3: Exited with exit code 78"
    ),
    "too hot again and again at the same step": Case("no-progress", code=78, restart=2, earlier=(STUCK, STUCK)),
    "a rank was killed": Case("requeued", code=137, says="srun: error: n1: task 1: Killed"),
    "a rank was killed and its peer lost it": Case(
        "requeued",
        code=137,
        says="srun: error: n1: task 0: Exited with exit code 1\nsrun: error: n1: task 1: Killed",
    ),
    "srun itself failed": Case("requeued", code=1, says="srun: error: Task launch failed: Invalid job credential"),
    "a bug": Case("failed", code=1, says="srun: error: n1: tasks 0-3: Exited with exit code 1"),
    "a bug, and the others were told to go": Case(
        "failed",
        code=143,
        says="srun: error: n1: task 2: Exited with exit code 1\nsrun: error: n1: tasks 0-1,3: Terminated",
        exits_with=1,
    ),
    "a wrong profile": Case("failed", code=2, says="srun: error: n1: tasks 0-3: Exited with exit code 2"),
    "diverged, and the others saved": Case(
        "failed",
        code=75,
        says="srun: error: n2: task 3: Exited with exit code 75\nsrun: error: n1: task 0: Exited with exit code 6",
        exits_with=6,
    ),
    "a node is unfit, and its rank was taken down": Case(
        "requeued",
        code=143,
        says="srun: error: n1: task 0: Exited with exit code 77\nsrun: error: n2: task 1: Terminated",
        exits_with=77,
    ),
    "a node is lost, which srun calls success": Case(
        "requeued", code=0, says="srun: error: Node failure on n1", exits_with=76
    ),
    "a rank was killed before all ranks had started, and the others were told to stop": Case(
        "requeued", code=137, says="srun: error: n2: task 1: Killed\nsrun: error: n1: task 0: Exited with exit code 75"
    ),
    "a rank ended before all ranks had started, and the others noticed": Case(
        "requeued",
        code=76,
        says="srun: error: n2: task 1: Terminated\nsrun: error: n1: task 0: Exited with exit code 76",
    ),
    "ranks that never come, attempt after attempt": Case(
        "no-progress",
        code=76,
        says="srun: error: n1: task 0: Exited with exit code 76",
        restart=2,
        earlier=(STUCK, STUCK),
    ),
    "requeue is off": Case("requeue-is-off", requeue=False),
    "the last attempt allowed": Case("too-many-attempts", restart=9),
    "the last but one": Case("requeued", restart=8, acts=ADVANCE),
    "third without progress": Case("no-progress", restart=2, earlier=(STUCK, STUCK)),
    "third, with progress": Case("requeued", restart=2, earlier=(STUCK, STUCK), acts=ADVANCE),
    "the others were another job's": Case(
        "requeued", restart=2, earlier=(("5", "requeued", "none"), ("5", "requeued", "none"))
    ),
    "one of the others was taken off the node": Case(
        "requeued", restart=2, earlier=(STUCK, ("7", "terminated", "none"))
    ),
    "told to stop": Case("terminated", code=75, acts="kill -TERM $BATCH; sleep 0.3"),
    "told to stop, and killed": Case("terminated", code=137, acts="kill -TERM $BATCH; sleep 0.3"),
    "told to stop in the last moment": Case("terminated", code=0, acts="kill -TERM $BATCH; sleep 0.3"),
}


@pytest.fixture(params=[pytest.param(case, id=name) for name, case in CASES.items()])
def case(request) -> Case:
    return request.param


def write_earlier(run: RunDir, case: Case) -> None:
    run.make_folders()
    for restart, (job_id, followed, checkpoint) in enumerate(case.earlier):
        append_history(run, EndedAttempt(1.0, job_id, restart, 75, "none", checkpoint, followed))


def run_script(folder: Path, case: Case, **environment: str) -> tuple[RunDir, int, Path]:
    """Run the attempt script with commands of our own in front of PATH."""
    run = RunDir(folder / "it's a run, 100 % [new]" / "1")
    write_earlier(run, case)
    fake = folder / "fake"
    fake.mkdir(parents=True)
    for name, body in FAKE_COMMANDS.items():
        (fake / name).write_text(f"#!/bin/bash\n{body}\n")
        (fake / name).chmod(0o755)
    (fake / "says").write_text(case.says + "\n")
    (fake / "acts").write_text(case.acts)
    head = f"""
        run_dir=$RUN trainer=(python -m trainer) requeue={"yes" if case.requeue else "no"}
        max_attempts={case.max_attempts} max_attempts_without_progress={case.without_progress}
    """
    (folder / "job.sh").write_text(head + attempt_script())
    done = subprocess.run(
        ["bash", str(folder / "job.sh")],
        env={
            "PATH": f"{fake}{os.pathsep}{os.environ['PATH']}",
            "FAKE": str(fake),
            "RUN": str(run.path),
            "run_dir": str(run.path),  # exported to the fakes
            "CODE": str(case.code),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_NTASKS": "4",
            "SLURM_CPUS_PER_TASK": "3",
            **({"SLURM_RESTART_COUNT": str(case.restart)} if case.restart else {}),
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert "syntax" not in done.stderr, done.stderr
    return run, done.returncode, fake


def test_the_batch_script_decides_as_the_table_says(tmp_path, case):
    run, code, fake = run_script(tmp_path, case)
    ended = read_history(run)[-1]
    assert (ended.followed, ended.job_id, ended.restart) == (case.followed, "7", case.restart)
    expected = case.exits_with if case.exits_with is not None else case.code
    assert (code, ended.exit_code) == (expected, expected)
    asked = (fake / "scontrol.log").read_text()
    assert ("requeue 7" in asked) == (case.followed == "requeued")
    if case.followed == "requeued":
        assert f"update JobId=7 StartTime=now+{120 if case.code == 78 else 10}\n" in asked


def test_the_local_supervisor_decides_alike(tmp_path, case):
    run = RunDir(tmp_path / "run")
    write_earlier(run, case)
    before = newest_checkpoint(run)
    if case.acts == ADVANCE:
        (run.checkpoints / "step-00000009").mkdir()
        (run.checkpoints / "step-00000009/MANIFEST.json").touch()
    code = case.exits_with if case.exits_with is not None else case.code
    if code == 1 and case.followed == "requeued":
        pytest.skip("there is no srun that could fail by itself")
    ended = what_follows(
        run,
        "7",
        case.restart,
        code,
        before,
        terminated=case.followed == "terminated",
        requeue=case.requeue,
        max_attempts=case.max_attempts,
        max_attempts_without_progress=case.without_progress,
    )
    assert ended.followed == case.followed


def test_ranks_are_started_as_slurm_and_nccl_need_it(tmp_path):
    run, _, fake = run_script(tmp_path, replace(CASES["finished"], restart=2))
    asked = (fake / "srun.log").read_text()
    assert "--cpus-per-task=3 --kill-on-bad-exit=1" in asked
    assert "gpu-bind" not in asked
    logs = str(run.logs).replace("%", "%%")  # srun reads % as the beginning of a pattern
    assert f"--output={logs}/job-7.2-rank-%4t.log python -m trainer {run.path}" in asked
    environment = dict(line.split("=", 1) for line in (fake / "environment").read_text().splitlines() if "=" in line)
    assert environment["MASTER_ADDR"] == "10.0.0.7"
    deadline = subprocess.check_output(["date", "-d", "2030-01-02T03:04:05", "+%s"], text=True).strip()
    assert environment["HPCTRAIN_DEADLINE"] == deadline


@pytest.mark.parametrize("answer", ["", "NONE", "N/A", "UNLIMITED", "slurm_load_jobs error: Invalid job id"])
def test_no_deadline_is_made_up_where_squeue_knows_none(tmp_path, answer, monkeypatch):
    """``date -d ''`` is this midnight, which would stop every run at its first step."""
    monkeypatch.setitem(FAKE_COMMANDS, "squeue", f"echo '{answer}'")
    _, _, fake = run_script(tmp_path, CASES["finished"])
    assert "HPCTRAIN_DEADLINE" not in (fake / "environment").read_text()


def test_the_task_of_an_array_asks_for_itself_only(tmp_path):
    """The last task of an array has the array's own id, and to requeue that would requeue its finished siblings."""
    run, _, fake = run_script(
        tmp_path, CASES["saved and asks for more"], SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3"
    )
    assert "requeue 7_3" in (fake / "scontrol.log").read_text().splitlines()
    assert read_history(run)[-1].job_id == "7_3"


def test_a_term_after_the_time_limit_is_the_time_limit_and_requeues(tmp_path, monkeypatch):
    """Slurm ends such a job as TIMEOUT and leaves it; a TERM before the limit is somebody's wish."""
    monkeypatch.setitem(FAKE_COMMANDS, "squeue", "date -d '1 second ago' +%Y-%m-%dT%H:%M:%S")
    run, _, fake = run_script(tmp_path, CASES["told to stop, and killed"])
    assert read_history(run)[-1].followed == "requeued"
    assert "requeue 7" in (fake / "scontrol.log").read_text()


def slurm_says(monkeypatch, words):
    """Make the fake scontrol answer as Slurm 22.05 does while it ends a job."""
    job = f"JobId=7 JobName=x Priority=1 {words} ExitCode=0:0"
    monkeypatch.setitem(
        FAKE_COMMANDS,
        "scontrol",
        f"""echo "$@" >> "$FAKE/scontrol.log"
        [ "$1 $2" != "show hostnames" ] || echo node1
        [ "$1 $2" != "show config" ] || echo "KillWait                = 3 sec"
        [ "$1 $2" != "show job" ] || echo "{job}" """,
    )


def test_a_time_limit_that_was_shortened_meanwhile_is_one_all_the_same(tmp_path, monkeypatch):
    """The deadline that was read at the start is far away; Slurm itself says why it ended the job."""
    slurm_says(monkeypatch, "JobState=COMPLETING Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=0")
    run, _, fake = run_script(tmp_path, CASES["told to stop, and killed"])
    assert read_history(run)[-1].followed == "requeued"
    assert "requeue 7" in (fake / "scontrol.log").read_text().splitlines()


@pytest.mark.slow
def test_what_follows_a_time_limit_is_decided_before_ranks_that_hang_are_killed(tmp_path, monkeypatch):
    """KillWait after its TERM Slurm kills them, and the batch script with them."""
    slurm_says(monkeypatch, "JobState=COMPLETING Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=0")
    hangs = 'kill -TERM $BATCH; sleep 4; echo killed >> "$FAKE/scontrol.log"'
    run, code, fake = run_script(tmp_path, replace(CASES["told to stop, and killed"], acts=hangs))
    assert (code, read_history(run)[-1].exit_code, read_history(run)[-1].followed) == (143, 143, "requeued")
    asked = (fake / "scontrol.log").read_text().splitlines()
    assert asked.index("requeue 7") < asked.index("killed")


def test_scancel_after_a_limit_that_was_extended_is_still_somebodys_wish(tmp_path, monkeypatch):
    monkeypatch.setitem(FAKE_COMMANDS, "squeue", "date -d '1 second ago' +%Y-%m-%dT%H:%M:%S")
    slurm_says(monkeypatch, "JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=0")
    run, _, fake = run_script(tmp_path, CASES["told to stop, and killed"])
    assert read_history(run)[-1].followed == "terminated"
    assert "requeue 7" not in (fake / "scontrol.log").read_text().splitlines()


def test_a_script_whose_node_was_given_up_never_requeues_the_start_that_took_over(tmp_path, monkeypatch):
    """Its ranks lost each other or were fenced; `scontrol requeue` would end the attempt that is at work elsewhere."""
    slurm_says(monkeypatch, "JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=2")
    run, _, fake = run_script(tmp_path, replace(CASES["a rank was killed"], restart=1))
    assert read_history(run)[-1].followed == "terminated"
    assert "requeue 7" not in (fake / "scontrol.log").read_text().splitlines()
    assert not run.bad_nodes.exists()


def test_the_late_word_of_an_attempt_that_was_replaced_stands_where_it_belongs(tmp_path):
    run = RunDir(tmp_path)
    run.make_folders()
    for job_id, restart, followed in (("5", 0, "terminated"), ("7", 1, "finished"), ("7", 0, "failed")):
        append_history(run, EndedAttempt(5.0, job_id, restart, 0, "none", "none", followed))
    assert [ended.followed for ended in read_history(run)] == ["terminated", "failed", "finished"]


def test_a_node_that_kills_ranks_twice_is_avoided_and_an_old_strike_expires(tmp_path):
    killed = replace(CASES["finished"], followed="requeued", code=137, says="srun: error: n2: task 3: Killed")
    run, _, fake = run_script(tmp_path / "once", killed)
    assert run.bad_nodes.read_text().split("\t")[1:] == ["n2", "7", "killed\n"]
    assert "ExcNodeList" not in (fake / "scontrol.log").read_text()

    def with_earlier_strike(folder, age_s, reason):
        earlier = RunDir(folder / "it's a run, 100 % [new]" / "1")
        earlier.make_folders()
        note_bad_nodes(earlier, ["n2"], "7", reason)
        text = earlier.bad_nodes.read_text()
        moment, rest = text.split("\t", 1)
        earlier.bad_nodes.write_text(f"{int(moment) - age_s}\t{rest}")
        return (run_script(folder, killed)[2] / "scontrol.log").read_text()

    assert "ExcNodeList=n2" in with_earlier_strike(tmp_path / "twice", 60, "killed")
    assert "ExcNodeList" not in with_earlier_strike(tmp_path / "long ago", 90000, "killed")
    assert "ExcNodeList=n2" in with_earlier_strike(tmp_path / "unfit", 60, "preflight")


def test_the_script_for_sbatch_by_hand_ends_with_the_same_text():
    by_hand = (Path(__file__).parents[3] / "slurm/train_hpc.sh").read_text()
    assert by_hand.endswith("\n" + attempt_script())
    assert shutil.which("bash")
    assert subprocess.run(["bash", "-n"], input=by_hand, text=True, check=False).returncode == 0


def test_a_torn_line_of_the_history_is_left_out(tmp_path):
    run = RunDir(tmp_path)
    run.make_folders()
    append_history(run, EndedAttempt(5.0, "7", 0, 75, "none", "none", "requeued"))
    with open(run.attempts / "ended.tsv", "a") as stream:
        stream.write("1700000\t7\t1")
    assert [ended.restart for ended in read_history(run)] == [0]


def test_what_watches_beside_the_ranks_tells_how_the_run_ended_and_leaves(tmp_path):
    heard, command = tmp_path / "heard", tmp_path / "beside"
    run = RunDir(tmp_path / "it's a run, 100 % [new]" / "1")
    run.path.mkdir(parents=True)
    tell = ["/bin/sh", "-c", 'echo "$HPCTRAIN_ALERT_TEXT" > "$0"', str(heard)]
    run.profile.write_text(yaml.safe_dump({"monitor": {"alerts": {"command": tell}}}))
    command.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\nexec {sys.executable} -m hpctrain.alerts.beside "$@"\n')
    command.chmod(0o755)
    run, code, _ = run_script(tmp_path, CASES["a wrong profile"], beside=str(command))
    assert code == 2
    assert "1: ALERT run-ended-badly: the run has ended at step 0 with exit code 2 (failed)" in heard.read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
