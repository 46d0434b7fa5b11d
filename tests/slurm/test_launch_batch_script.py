"""The batch script under a real Slurm, with a stub in the trainer's place: what each end leads to."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from permissions import wrong_permissions
from slurm_cluster import ENDED, SlurmCluster, wait_until

from hpctrain.access import GROUP
from hpctrain.cli import main
from hpctrain.errors import SiteError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.history import read_history
from hpctrain.launch.plan import Job
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.submit import Submission, prepare, submit
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.train import TrainSection
from hpctrain.rundir import RunDir, read_json

pytestmark = pytest.mark.slurm
STUB = (sys.executable, "-u", str(Path(__file__).with_name("stub_trainer.py")))


class Launcher:
    """Submits stub runs to the cluster of the tests."""

    def __init__(self, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster
        self.folder = cluster.fresh_dir()
        self._environment = monkeypatch
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        monkeypatch.chdir(self.folder)

    def prepare(
        self,
        stub: str = "steps=10",
        tasks: int = 1,
        runs_dir: str = "runs",
        after: tuple[Job, ...] = (),
        **launch: object,
    ) -> Submission:
        self._environment.setenv("STUB", stub)
        shape = {"nodes": 2, "ranks_per_node": 2, "gpus_per_node": 0, "cpus_per_rank": 1, "time_limit": "00:05:00"}
        profiles = [
            profile_class()(
                name="stub",
                launch=LaunchSection(**{**shape, "runs_dir": str(self.folder / runs_dir), **launch}),
                data=SpectraSection(files=["none.h5"]),
                train=TrainSection(seed=seed),
            )
            for seed in range(tasks)
        ]
        return prepare(profiles, "slurm", None, trainer=STUB, after=after)

    def submit(self, *arguments: object, **options: object) -> tuple[RunDir, str]:
        submission = self.prepare(*arguments, **options)
        return submission.runs[0], submit(submission, self.folder)[0]

    def wait_for_step(self, run: RunDir, step: int = 1) -> None:
        wait_until(lambda: describe(run).step >= step, f"step {step} of {run}", pause_s=0.2)

    def wait_for_end(self, run: RunDir) -> list[str]:
        """Wait until no other attempt follows; return what followed each."""
        wait_until(lambda: self.followed(run)[-1:] not in ([], ["requeued"]), f"end of {run}", pause_s=0.1)
        return self.followed(run)

    def followed(self, run: RunDir) -> list[str]:
        return [ended.followed for ended in read_history(run)]


@pytest.fixture
def launcher(slurm, monkeypatch) -> Launcher:
    return Launcher(slurm, monkeypatch)


def rank_logs(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.logs.glob("*rank*"))


def test_ranks_of_two_nodes_run_and_finish(launcher):
    run, job = launcher.submit(access="group")
    assert launcher.wait_for_end(run) == ["finished"]
    assert wrong_permissions(run.path, GROUP) == [], "some of the files are made by Slurm, on nodes"
    assert rank_logs(run) == [f"job-{job}.0-rank-{rank:04d}.log" for rank in range(4)]
    nodes = {(run.logs / name).read_text().split(":")[0].rsplit(" ", 1)[1] for name in rank_logs(run)}
    assert nodes == {launcher.cluster.nodes[0], launcher.cluster.nodes[1]}
    assert launcher.cluster.wait_for(job) == "COMPLETED"
    status = describe(run)
    assert (status.state, status.source, status.step, status.total_steps) == ("finished", "squeue", 10, 10)


def test_a_warning_leads_to_a_requeue_within_seconds(launcher):
    """Slurm waits two minutes by default; the start time that is set while the job completes replaces that."""
    run, job = launcher.submit("steps=60")
    launcher.wait_for_step(run)
    launcher.cluster.run(["scancel", "--signal=USR2", job])
    wait_until(lambda: launcher.followed(run) == ["requeued"])
    assert main(["access", str(run.path), GROUP]) == 0
    seen: list[str] = []
    wait_until(lambda: seen.append(describe(run).state) or seen[-1] == "requeued", seen, pause_s=0.2)
    starts_at = time.mktime(time.strptime(launcher.cluster.job(job)["StartTime"], "%Y-%m-%dT%H:%M:%S"))
    assert starts_at - time.time() < 15
    wait_until(lambda: len(rank_logs(run)) == 8)
    assert launcher.wait_for_end(run) == ["requeued", "finished"]
    assert wrong_permissions(run.path, GROUP) == [], "Slurm remembers the umask of the submission"
    assert launcher.cluster.job(job)["Restarts"] == "1"
    batch = (run.logs / f"job-{job}-batch.log").read_text()
    assert batch.count("newest checkpoint") == 4  # both attempts, for nothing is truncated


def test_the_time_limit_leads_to_a_requeue_without_any_signal(launcher):
    run, job = launcher.submit("steps=80 lead=54", time_limit="00:01:00", signal_lead_s=0)
    assert launcher.wait_for_end(run)[-1] == "finished"
    assert launcher.followed(run)[0] == "requeued"
    first = (run.logs / f"job-{job}.0-rank-0000.log").read_text()
    assert "by deadline" in first


@pytest.mark.slow
def test_a_slice_starts_in_a_hole_of_the_queue_and_asks_for_its_whole_time_again(launcher):
    """Three nodes are busy for two minutes and a job of four waits for them; an hour would not fit before that."""
    fill = ["sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"]
    others = [launcher.cluster.run([*fill, "--nodes=3", "--time=3"]), launcher.cluster.run([*fill, "--nodes=4"])]
    slices = {"shortest": "00:01:00", "longest": "01:00:00"}
    run, job = launcher.submit("steps=40", nodes=1, ranks_per_node=1, signal_lead_s=5, slices=slices)
    launcher.wait_for_step(run)
    assert launcher.cluster.job(job)["TimeLimit"] != "01:00:00"
    launcher.cluster.run(["scancel", "--signal=USR2", job])
    wait_until(lambda: launcher.cluster.job(job)["TimeLimit"] == "01:00:00", pause_s=0.1)
    for other in others:
        launcher.cluster.run(["scancel", other.stdout.strip()])
    assert launcher.wait_for_end(run) == ["requeued", "finished"]


def test_a_killed_rank_takes_the_others_down_and_the_run_goes_on(launcher):
    run, _ = launcher.submit("steps=20 kill=1:@3")
    assert launcher.wait_for_end(run) == ["requeued", "finished"]
    assert read_history(run)[0].exit_code in (75, 137)


@pytest.mark.parametrize("code", [1, 2, 4, 6])
def test_what_the_user_must_mend_is_not_requeued(launcher, code):
    run, job = launcher.submit(f"steps=20 exit=2:{code}@3")
    assert launcher.wait_for_end(run) == ["failed"]
    assert read_history(run)[0].exit_code == code
    assert launcher.cluster.wait_for(job) == "FAILED"
    assert launcher.cluster.job(job)["ExitCode"] == f"{code}:0"
    assert describe(run).state == "failed"


def test_a_job_after_another_waits_through_its_requeue(launcher):
    """A requeued attempt leaves with code 75; that must not count as the end of the job."""
    first, job = launcher.submit("steps=40", nodes=1)
    waiting = launcher.prepare("steps=2", nodes=1, after=(newest_job(first),))
    submit(waiting, launcher.folder)
    (second,) = waiting.runs
    launcher.wait_for_step(first)
    launcher.cluster.run(["scancel", "--signal=USR2", job])
    assert launcher.wait_for_end(first) == ["requeued", "finished"]
    assert launcher.wait_for_end(second) == ["finished"]
    began = next(second.read_metrics("event"))["time"]
    assert began >= read_history(first)[-1].time


def test_cancelling_keeps_the_hands_off(launcher):
    run, job = launcher.submit("steps=600")
    launcher.wait_for_step(run)
    launcher.cluster.run(["scancel", job])
    assert launcher.wait_for_end(run) == ["terminated"]
    assert launcher.cluster.wait_for(job) == "CANCELLED"
    status = describe(run)
    assert (status.state, status.checkpoint != "none") == ("cancelled", True)


def test_a_requeue_by_the_admin_is_left_to_slurm(launcher):
    run, job = launcher.submit("steps=40")
    launcher.wait_for_step(run)
    launcher.cluster.run(["scontrol", "requeue", job])
    launcher.cluster.run(["scontrol", "update", f"JobId={job}", "StartTime=now+8"])
    wait_until(lambda: launcher.followed(run)[-1:] == ["finished"])
    assert launcher.followed(run) == ["terminated", "finished"]
    assert launcher.cluster.job(job)["Restarts"] == "1"


def test_one_task_of_an_array_requeues_without_its_siblings(launcher):
    """The last task's plain job id is that of the array; its requeue must not begin the first again."""
    submission = launcher.prepare("steps=50", tasks=2, nodes=1)
    jobs = submit(submission, launcher.folder)
    first, last = submission.runs
    assert [job.partition("_")[2] for job in jobs] == ["0", "1"]
    assert [read_json(run.job)["submissions"][0]["array_index"] for run in submission.runs] == [0, 1]
    launcher.wait_for_step(last)
    launcher.cluster.run(["scancel", "--signal=USR2", jobs[1]])
    assert launcher.wait_for_end(first) == ["finished"]
    assert launcher.wait_for_end(last) == ["requeued", "finished"]
    assert len(rank_logs(first)) == 2
    assert describe(last).state == "finished"
    assert launcher.cluster.wait_for(jobs[1], ENDED) == "COMPLETED"


NASTY = ["it's a run", 'quote" $(touch pwned) `id`', "100 % %j [ab]; & <é>"]


@pytest.mark.parametrize("name", NASTY)
def test_folder_names_reach_no_shell(launcher, name):
    run, job = launcher.submit("steps=2", runs_dir=name, nodes=1)
    assert launcher.wait_for_end(run) == ["finished"]
    assert rank_logs(run) == [f"job-{job}.0-rank-{rank:04d}.log" for rank in range(2)]
    assert (run.logs / f"job-{job}-batch.log").exists()
    assert not list(launcher.folder.rglob("pwned"))


def test_a_refused_job_leaves_no_run_directory(launcher):
    submission = launcher.prepare(partition="nowhere")
    with pytest.raises(SiteError, match=r"(?s)sbatch refuses job 'stub'.*nowhere.*launch.partition"):
        submit(submission, launcher.folder)
    assert os.listdir(launcher.folder) == []


def test_slurm_reads_an_option_as_it_was_written(launcher):
    text = """it's "mine" / 50% #1; $(id) `id`"""
    _, job = launcher.submit(nodes=1, sbatch={"comment": text, "hold": True})
    said = launcher.cluster.run(["scontrol", "show", "job", job]).stdout
    launcher.cluster.run(["scancel", job])
    assert f"Comment={text}" in [line.strip() for line in said.splitlines()]
