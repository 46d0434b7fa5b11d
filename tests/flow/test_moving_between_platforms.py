"""A run that moves from platform to platform ends with the bits of one that never moved.

It begins as a job of a real Slurm, goes on as a local run, in the pods of an indexed Job, on two nodes of a real Ray,
and at SageMaker, whose container is played here (``played_clouds.py``), with nothing but what the platform brings.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from cloud_tools import pretended_tools
from moving import TOTAL_STEPS, WEIGHTS, a_run, moving_profile, newest, start, stop_after, wait_for_step, wait_for_steps
from played_clouds import SageMakerJob
from played_container import can_play
from processes import wait_until
from ray_lab import RayNodes, ray_python
from slurm_cluster import SlurmCluster

from hpctrain import states
from hpctrain.checkpoint.mirror import Mirror, pull
from hpctrain.launch.history import read_history
from hpctrain.launch.ranks import free_port
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.sagemaker import SageMakerSection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="eight starts of ranks; set ALL_FAULTS=1"),
]


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> dict:
    return moving_profile(tmp_path_factory.mktemp("data"))


def on_slurm(cluster: SlurmCluster, profile: dict, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """Submit the run to a real Slurm."""
    folder = cluster.fresh_dir()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    values = {**profile, "launch": {**profile["launch"], "runs_dir": str(folder), "time_limit": "00:10:00"}}
    (folder / "profile.yaml").write_text(yaml.safe_dump(values))
    submission = prepare([load_profile(folder / "profile.yaml")], "slurm", None)
    submit(submission, folder)
    return submission.runs[0]


def in_pods(run: RunDir) -> list[subprocess.Popen[bytes]]:
    """Start the two pods of an indexed Job."""
    words = {
        "HPCTRAIN_NODES": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "HPCTRAIN_JOB_ID": "k8s",
    }
    return [start("hpctrain.launch.pod", run.path, JOB_COMPLETION_INDEX=str(node), **words) for node in range(2)]


def on_ray_until(run: RunDir, step: int) -> None:
    """Resume the run on two nodes of a real Ray, and cancel it after some steps."""
    with RayNodes(ray_python()) as nodes:
        nodes.add()
        shape = ("--set", "launch.nodes=2", "launch.ranks_per_node=1")
        words = ("submit", "--resume", str(run.path), "--cluster", "ray", "--no-memory", *shape)
        nodes.types(*words, cwd=run.path.parents[1])
        wait_for_step(run, step)
        cancel(run)
        wait_until(lambda: describe(run).state == states.CANCELLED, run)


def to_sagemaker(run: RunDir, amazon: Path) -> dict:
    """Let the run go on at SageMaker; return the request."""
    facts = {
        "role": "arn:aws:iam::123456789012:role/trainer",
        "home": "s3://astro-runs/hpctrain",
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hpctrain:1",
    }
    shape = ["launch.instance_type=ml.m5.xlarge", "launch.nodes=1", "launch.ranks_per_node=2"]
    profile = load_profile(run.profile, ["launch.cluster=sagemaker", "data.files=[s3://surveys/tiny/data.h5]", *shape])
    site = Site(sagemaker=SageMakerSection.model_validate(facts))
    (name,) = submit(prepare([profile], "sagemaker", site, resume=run), run.path.parent)
    return json.loads((amazon / f"jobs/{name}.json").read_text())


@pytest.mark.skipif(not can_play(), reason="needs root for the file system of a container")
@pytest.mark.slurm
def test_from_slurm_to_a_local_run_to_pods_to_sagemaker_the_bits_stay(profile, slurm, tmp_path, monkeypatch):
    straight = a_run(tmp_path / "straight", profile)
    assert [process.wait() for process in in_pods(straight)] == [0, 0]

    run = on_slurm(slurm, profile, monkeypatch)
    wait_for_step(run, 20)
    cancel(run)
    wait_until(lambda: read_history(run), run)
    assert read_history(run)[-1].followed == "terminated"
    begun = newest(run)

    supervisor = start("hpctrain.launch.supervisor", run.path)
    assert stop_after(run, begun + 20, [supervisor], signal.SIGTERM) == [75]
    first = newest(run)
    assert first > begun

    assert stop_after(run, first + 40, in_pods(run), signal.SIGTERM) == [75, 75]
    pods = in_pods(run)
    assert stop_after(run, newest(run) + 30, pods[:1], signal.SIGKILL) == [-signal.SIGKILL]
    assert pods[1].wait() in (75, 76)  # the ranks of a killed container get TERM here, and may save
    assert newest(run) > first

    before = newest(run)
    on_ray_until(run, before + 20)
    assert newest(run) > before

    amazon = tmp_path / "amazon"
    for name, value in pretended_tools(amazon).items():
        monkeypatch.setenv(name, value)
    (amazon / "s3/surveys/tiny").mkdir(parents=True)
    shutil.copyfile(profile["data"]["files"][0], amazon / "s3/surveys/tiny/data.h5")
    request = to_sagemaker(run, amazon)
    job = SageMakerJob(request, tmp_path / "machine", amazon / "s3")
    there = RunDir(job.checkpoints / "moved" / run.run_id)
    wait_for_steps(there, 20, run.newest_attempt())
    job.container.terminate()
    assert job.container.wait() == 75
    job.end()

    job = SageMakerJob(request, tmp_path / "machine", amazon / "s3")
    assert job.container.wait() == 0
    job.end()

    last = RunDir(tmp_path / "last/moved" / run.run_id)
    home = run.read_job()["home"].removeprefix("s3://")
    assert pull(Mirror(f"file://{amazon}/s3/{home}"), last).step == TOTAL_STEPS
    assert (last.path / WEIGHTS).read_bytes() == (straight.path / WEIGHTS).read_bytes()
    assert {ended.job_id for ended in read_history(last)} >= {"k8s", request["TrainingJobName"]}
    assert len({ended.job_id for ended in read_history(last)}) == 5
