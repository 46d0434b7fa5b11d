"""``--after``: which jobs are waited for, which need no waiting, and which are refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpctrain.errors import ProfileError, SiteError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.after import jobs_before, wait_until_finished
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.launch.plan import Job, plan_job
from hpctrain.launch.targets import find_target
from hpctrain.profile.families import profile_class
from hpctrain.rundir import RunDir, write_json

NOW = 1_800_000_000.0
SQUEUE = """\
#!/bin/sh
case "$*" in
    *" 7 "*) echo "PENDING|Priority|N/A|N/A||quasars"; exit;;
    *" 9 "*) echo "CANCELLED|None|N/A|N/A||other"; exit;;
esac
echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder, and on PATH a squeue that knows job 7, which waits, and job 9 of another name."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "squeue").write_text(SQUEUE)
    (commands / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(folder: Path, job_id: str, followed: str = "", code: int = 0) -> RunDir:
    run = RunDir.create(folder / "runs", "quasars", f"20270115-080000-00{int(job_id):02d}")
    run.profile.write_text("name: quasars\n")
    submissions = [{"job_id": "3", "submitted_at": NOW - 9}, {"job_id": job_id, "submitted_at": NOW}]
    write_json(run.job, {"name": "quasars", "cluster": "slurm", "submissions": submissions})
    if followed:
        append_history(run, EndedAttempt(NOW, job_id, 0, code, "none", "none", followed))
    return run


def test_an_active_run_is_waited_for_by_its_newest_job_and_a_finished_one_is_not(folder):
    queued = make_run(folder, "7")
    done = make_run(folder, "8", "finished")
    expected = Job("7", "slurm", queued.path, "quasars")
    assert jobs_before([str(queued.path), str(done.path)], folder / "runs", "slurm") == (expected,)
    assert jobs_before([queued.run_id, "7", "8"], folder / "runs", "slurm") == (expected, expected)


def test_what_is_no_run_may_be_another_job_of_the_platform(folder):
    make_run(folder, "7")
    assert jobs_before(["41", "41", "42_1"], folder / "runs", "slurm") == (Job("41", "slurm"), Job("42_1", "slurm"))


@pytest.mark.parametrize(("followed", "code", "state"), [("failed", 4, "failed"), ("terminated", 75, "cancelled")])
def test_a_run_that_has_ended_otherwise_is_refused_with_a_way_out(folder, followed, code, state):
    run = make_run(folder, "8", followed, code)
    with pytest.raises(ProfileError, match=rf"--after: runs/\S+ is {state} .*first run: hpc-submit --resume runs/"):
        jobs_before([str(run.path)], folder / "runs", "slurm")


@pytest.mark.parametrize(
    ("job_id", "said"), [("41", "does not know job 41 .*Invalid job id"), ("9", "job 9 has ended")]
)
def test_slurm_is_asked_whether_it_knows_a_job_that_is_no_run(folder, job_id, said):
    """sbatch takes an unknown job for one that has finished, and a typing error would start the job at once."""
    target = find_target("slurm")
    profile = profile_class()(name="next", data=SpectraSection(files=["a.h5"]))
    plan = plan_job(profile, folder / "runs/next/1", target, after=(Job(job_id, "slurm"),))
    with pytest.raises(SiteError, match=f"--after: .*{said}"):
        target.ask(plan, target.files(plan))


def test_waiting_ends_when_all_have_finished_or_one_has_failed_or_on_request(folder):
    done, failed, queued = make_run(folder, "8", "finished"), make_run(folder, "9", "failed", 4), make_run(folder, "7")
    assert wait_until_finished([done], lambda: False) is None
    assert wait_until_finished([queued], lambda: True) is None
    status = wait_until_finished([done, failed], lambda: False, poll_s=0.01)
    assert (status.run.path, status.state) == (failed.path, "failed")


def test_a_run_that_was_lost_for_a_moment_is_still_waited_for(folder):
    """Between two attempts a run of another host may look lost or stopped."""
    run = make_run(folder, "8")
    beat = {"rank": 0, "attempt": 1, "step": 1, "total_steps": 9, "interval_s": 10.0, "host": "n1", "pid": 1}
    write_json(run.heartbeat(0), {**beat, "state": "running", "time": time.time() - 1000})
    polls = []

    def count() -> bool:
        polls.append(1)
        if len(polls) == 10:
            append_history(run, EndedAttempt(time.time(), "8", 1, 0, "none", "step-00000009", "finished"))
        return False

    assert wait_until_finished([run], count, poll_s=0.01) is None
    assert len(polls) == 10
