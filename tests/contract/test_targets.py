"""Every target keeps the contract of ``hpctrain/launch/targets/target.py``: the same tests for all of the registry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_cluster import fake_cluster
from processes import wait_until
from slurm_cluster import SlurmCluster

from hpctrain import states
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.history import read_history
from hpctrain.launch.plan import Job, JobPlan, plan_job
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import RunStatus, describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.launch.targets import TARGETS, find_target
from hpctrain.launch.targets.target import ENDING, JobState
from hpctrain.profile.families import profile_class
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.rundir import RunDir

NEEDS = {"slurm": "slurm"}
"""Fixture of a real platform that a target needs; a target that is not here needs nothing but this machine, or has a
fake platform made for each test."""
ELSEWHERE = ("sagemaker", "vertex", "azureml", "ray")
"""Targets whose platform cannot be had here, or takes minutes to start; they have tests of their own."""
STATES = {*states.ACTIVE, *states.OVER, states.UNKNOWN, ENDING}


class Place:
    """A target and a folder for its runs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.target = find_target(name)

    def profile(self, **launch: object) -> Profile:
        shape = {"nodes": 1, "gpus_per_node": 0, "cpus_per_rank": 1, "time_limit": "00:05:00", "signal_lead_s": 60}
        shape["image"] = "registry/hpctrain:1"
        return profile_class()(
            name="job",
            launch=LaunchSection(**{**shape, "runs_dir": str(self.folder / "runs"), **launch}),
            data=SpectraSection(files=["none.h5"]),
        )

    def plan(self, **facts: object) -> JobPlan:
        return plan_job(self.profile(), self.folder / "runs/job/20270115-080000-aaaa", self.target, **facts)

    def submit(self, script: str, after: tuple[Job, ...] = (), **launch: object) -> RunDir:
        """Submit a job whose ranks run a line of shell; ``$1`` is the run directory."""
        command = ("sh", "-c", script, "rank")
        submission = prepare([self.profile(**launch)], self.name, None, trainer=command, after=after)
        (run,) = submission.runs
        ids = submit(submission, self.folder)
        assert ids == [newest_job(run).id]
        assert ids[0]
        return run


def _marked(name: str) -> object:
    return pytest.param(name, marks=getattr(pytest.mark, NEEDS[name]) if name in NEEDS else ())


@pytest.fixture(scope="module", params=[_marked(name) for name in TARGETS if name not in ELSEWHERE])
def platform(request: pytest.FixtureRequest) -> tuple[str, SlurmCluster | None]:
    """Name of a target, and its platform where that has to be brought up."""
    needed = NEEDS.get(request.param)
    return request.param, None if needed is None else request.getfixturevalue(needed)


@pytest.fixture
def place(platform, tmp_path, tmp_path_factory, monkeypatch) -> Iterator[Place]:
    name, cluster = platform
    with contextlib.ExitStack() as stack:
        if name == "kubernetes":
            stack.enter_context(fake_cluster(tmp_path_factory.mktemp("cluster"), monkeypatch))
        if cluster is not None:
            monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        folder = tmp_path if cluster is None else cluster.fresh_dir()
        monkeypatch.chdir(folder)
        yield Place(name, folder)


@pytest.fixture
def place_that_waits(place) -> Place:
    """A platform on which a job can wait for another one."""
    if not place.target.check(place.plan(after=(Job("1", place.name, place.folder / "runs/job/1"),)), None):
        return place
    return pytest.skip(f"a job on {place.name} cannot wait for another one")


def wait_for(run: RunDir, state: str) -> RunStatus:
    wait_until(lambda: describe(run).state == state, f"{run.path} {state}", pause_s=0.1)
    return describe(run)


def rank_logs(run: RunDir) -> list[str]:
    return [path.name for path in run.logs.glob("*-rank-*")]


def test_the_files_of_a_plan_are_text_with_plain_names_and_nothing_is_written(place):
    files = place.target.files(place.plan())
    assert all(isinstance(text, str) and text for text in files.values())
    assert all(name == os.path.basename(name) and name not in ("profile.yaml", "job.json") for name in files)
    assert place.target.files(place.plan()) == files
    assert list(place.folder.iterdir()) == []


def test_a_good_plan_has_no_problems_and_a_job_that_nobody_knows_is_one(place):
    assert place.target.check(place.plan(), None) == []
    (problem,) = place.target.check(place.plan(after=(Job("no such job", place.name),)), None)
    assert problem.where == "--after"
    assert "no such job" in problem.message


def test_a_target_says_what_it_is(place):
    assert place.target.name == place.name
    assert place.target.requeues in ("script", "supervisor", "platform")
    assert place.target.is_available()
    assert place.target.answers()
    assert not (place.target.has_queue and place.target.is_this_machine)


def test_an_unknown_job_is_an_answer_and_no_error(place):
    answer = place.target.state(Job("999999", place.name, place.folder / "nowhere"))
    assert answer.state == states.UNKNOWN
    assert place.target.logs(Job("999999", place.name, place.folder / "nowhere")) == []


def test_the_platform_is_asked_and_nothing_is_left(place):
    plan = place.plan()
    assert all(isinstance(line, str) for line in place.target.ask(plan, place.target.files(plan)))
    assert list(place.folder.iterdir()) == []


def test_a_job_runs_its_command_once_and_finishes(place):
    run = place.submit('echo ran >> "$1/ran"')
    answers: list[JobState] = []
    wait_until(lambda: answers.append(place.target.state(newest_job(run))) or describe(run).state == states.FINISHED)
    assert {answer.state for answer in answers} <= STATES
    assert (run.path / "ran").read_text() == "ran\n"
    assert [ended.followed for ended in read_history(run)] == ["finished"]
    wait_until(lambda: place.target.logs(newest_job(run)), "the log of the job itself")
    assert "finished" in "".join(path.read_text() for path in place.target.logs(newest_job(run)))


def test_a_cancelled_job_ends_and_no_attempt_follows(place):
    run = place.submit('echo > "$1/began"; exec sleep 600')
    wait_until((run.path / "began").exists, "the start of the job")
    assert describe(run).state == states.RUNNING
    assert str(run.path) in cancel(run)
    wait_for(run, states.CANCELLED)
    wait_until(lambda: [ended.followed for ended in read_history(run)] == ["terminated"])


WAITS = 'while [ ! -e "$1/go" ]; do sleep 0.1; done; '


def test_a_job_after_another_one_starts_when_that_has_finished(place_that_waits):
    place = place_that_waits
    first = place.submit(WAITS + 'echo > "$1/done"')
    second = place.submit(f"test -e {first.path}/done", after=(newest_job(first),))
    wait_for(first, states.RUNNING)
    waiting = wait_for(second, states.PENDING)
    assert waiting.detail
    assert rank_logs(second) == []
    (first.path / "go").touch()
    wait_for(second, states.FINISHED)
    assert [ended.followed for ended in read_history(second)] == ["finished"]


@pytest.mark.slow
def test_a_job_after_one_that_fails_never_starts(place_that_waits):
    place = place_that_waits
    first = place.submit(WAITS + "exit 2")
    second = place.submit("true", after=(newest_job(first),))
    (first.path / "go").touch()
    wait_for(first, states.FAILED)
    ended = wait_for(second, states.CANCELLED)
    assert "did not finish" in ended.detail
    assert rank_logs(second) == []


def test_a_waiting_job_can_be_cancelled(place_that_waits):
    place = place_that_waits
    first = place.submit("exec sleep 600")
    second = place.submit("true", after=(newest_job(first),))
    wait_for(second, states.PENDING)
    cancel(second)
    wait_for(second, states.CANCELLED)
    wait_for(first, states.RUNNING)
    cancel(first)
    wait_for(first, states.CANCELLED)
    assert rank_logs(second) == []
